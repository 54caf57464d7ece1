"""The core, which knows no bus."""
