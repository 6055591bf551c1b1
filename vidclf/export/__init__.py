"""Results of a classification in tables, labelling tools and other formats: the `export` job.

Names to import: `job`: `export`.

A target (one module per format) knows which rows its output has, and replaces or appends rows in one commit.
`change.py` decides which rows these are. May import `runs`, `preflight`, `storage`, `credentials`, `config`, `schema`,
`arrow` and `errors`. Must not import Ray or torch. The library of a table format is imported in its own module only.
"""
