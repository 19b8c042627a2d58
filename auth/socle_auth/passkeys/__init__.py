"""Passkeys: sign-in by discoverable WebAuthn credentials, and their care (contract §3.12)."""
