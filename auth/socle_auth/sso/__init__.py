"""Single sign-on by SAML 2.0 (contract §3.15). Needs the `saml` extra (lxml, signxml)."""
