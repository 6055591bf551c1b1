"""The `classify` job: features become predictions, in one pass or progressively."""
