"""Azure Key Vault and Managed HSM: RSA keys, used by the service alone."""
