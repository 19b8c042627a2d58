"""Our own OAuth 2.1 authorization server: other applications sign our users in (contract §3.16)."""
