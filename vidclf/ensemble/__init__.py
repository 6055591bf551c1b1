"""The temporal model, and an ensemble of them on disk and at work."""
