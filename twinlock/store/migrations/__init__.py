"""The database's shape, step by step; each step is written out and never changed after its release."""
