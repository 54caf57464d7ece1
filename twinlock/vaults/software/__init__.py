"""Vaults of software keys: in a folder (`local:`), or in memory for tests; one implementation, two shelves."""
