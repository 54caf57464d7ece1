"""The life of a policy key: made, refreshed, recovered onto new root keys, purged."""
