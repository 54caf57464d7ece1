"""The fleet: one package a worker, what all of them share beside these, and in `roster.py` who does what."""
