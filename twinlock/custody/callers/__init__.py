"""Who may ask the custodian, for what, and once (laws 9 and 10)."""
