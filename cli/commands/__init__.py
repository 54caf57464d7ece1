"""The commands, one file a noun; each registers itself with the program."""
