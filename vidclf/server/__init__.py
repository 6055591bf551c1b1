"""The `serve` job: an HTTP server that classifies one video at a time."""
