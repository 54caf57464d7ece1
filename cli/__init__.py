"""The command line: settings, wiring and commands."""
