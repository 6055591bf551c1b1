"""The `tune` job: a search of model and recipe."""
