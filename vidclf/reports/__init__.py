"""The `evaluate` and `diff` jobs and the page of `tune`: figures, lists of errors and HTML pages.

Public names, by module:

- `evaluate`: `evaluate`, `table`, the report of a classification
- `diff`: `diff`, `table`, the comparison of two classifications
- `tuning_page`: `publish`, `table`, the page of a hyperparameter search
- `figures`: `Evaluation`, `Detail`, the content of `metrics.json`

The package may import every other package but `server`. This `__init__` imports nothing, so that `diff` starts without
torch and Ray.
"""
