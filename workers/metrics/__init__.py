"""What a worker measures of itself, for Prometheus: what happened as it happens, what stands when it is asked."""
