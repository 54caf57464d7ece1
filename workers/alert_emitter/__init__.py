"""The alert emitter: one alert an episode, raised, repeated with a count, resolved, for whoever listens."""
