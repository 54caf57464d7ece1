"""AWS KMS: symmetric keys, by their ARN."""
