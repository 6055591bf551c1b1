"""Feature vectors on disk: their key, their columns, and reading them back."""
