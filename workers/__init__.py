"""The fleet: one file a worker."""
