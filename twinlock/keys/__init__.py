"""The pure floor: key hierarchy, wrapping, item formats and ports; no I/O and no clock."""
