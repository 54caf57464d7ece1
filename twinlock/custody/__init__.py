"""The custodian: the one place in whose memory policy keys exist."""
