"""The `evaluate` and `diff` jobs: figures and the pages that show them."""
