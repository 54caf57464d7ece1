"""The custodian from afar: what a caller signs and a host seals, whatever carries it (law 9)."""
