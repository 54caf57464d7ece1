"""Traces across events, with OpenTelemetry: what one request set off, in whichever processes."""
