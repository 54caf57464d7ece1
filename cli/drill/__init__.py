"""Drills: what would happen if, tried out on keys of a sandbox and told of a real policy."""
