"""Purges: everything under a policy destroyed for good, its availability keys last, and a certificate of it."""
