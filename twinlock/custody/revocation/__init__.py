"""Revocations (law 8): the rising number, who has confirmed it, and the mark outside the database."""
