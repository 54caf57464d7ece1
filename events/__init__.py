"""The bus: publisher, outbox relay, inbox, handler runtime and transports."""
