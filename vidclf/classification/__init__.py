"""The `classify` job: predictions from videos or from stored features, in one pass or progressively.

Public names, by module:

- `classify`: `classify`, the whole job
- `head`: `EnsembleHead`, `HeadSettings`
- `compatibility`: `fitted_embeddings`, `fitted_runs`, `first_embeddings`
- `passes`: `PASSES_DIR`, `PASS_OF`, `plans_of`
- `segments`: `Segment`, `segments_of`
- `stored_features`: `open_features`, `threshold`, `predictions`

The package may import `ensemble`, `uncertainty`, `pipeline` and the packages below them, but not `training`. Nothing is
imported here, so that reports can read `passes` without loading the pipeline.
"""
