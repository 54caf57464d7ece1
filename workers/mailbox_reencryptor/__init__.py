"""The mailbox re-encryptor: brings every item under its mailbox's newest key and destroys the older ones."""
