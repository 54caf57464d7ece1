"""What is known of root keys: probes, verdicts, evidence of outages, and what follows from them."""
