"""Sign-in with other people's accounts: providers, the redirect flow, linking, ID tokens (contract §4.2-4.5)."""
