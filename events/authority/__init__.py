"""Who may ask for what, and who may tell what (law 13)."""
