"""Mailboxes and their items: put, get, delete, list, import, export and the re-encrypt step."""
