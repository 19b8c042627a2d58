"""Sign-in with a wallet: Ethereum (EIP-4361) and Solana (contract §4.7)."""
