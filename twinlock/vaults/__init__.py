"""Vault adapters, each behind the port in `twinlock.keys.ports`."""
