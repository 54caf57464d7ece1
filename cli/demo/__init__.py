"""The demo: the whole story with real mail, told in the commands that a person types."""
