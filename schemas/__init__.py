"""The public contract: events, identifiers, and the JSON Schema and AsyncAPI documents made from them."""
