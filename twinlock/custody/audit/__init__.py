"""The audit log (law 15): its entries, the chain over them, and what is signed of it."""
