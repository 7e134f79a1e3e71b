"""The five source documents as running code, and the ledger that judges every printed line."""
