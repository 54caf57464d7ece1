"""OpenBao and HashiCorp Vault: keys of the transit engine."""
