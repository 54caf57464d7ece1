"""The custodian: the one place in whose memory policy keys exist.

Rooms: `audit` (law 15), `callers` (who may ask), `health` (what is known of root keys), `lifecycle` (made, refreshed,
recovered, purged), `revocation` (law 8) and `remote` (the call from another process). What lies beside opens a key:
`custodian`, `opening`, `attempt`, then `unwrap` or `hedge`, and `decision`, which is pure.
"""
