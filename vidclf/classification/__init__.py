"""The `classify` job: class predictions from videos or from stored features.

It classifies all videos once, or progressively: first from a few keyframes, then undecided videos from all frames.

Public names, by module:

- `classify`: `classification`, the pipeline job of a configuration and the function that runs it
- `archive_job`: `classify_archive`, the whole job of a configuration; `written`, its output directories
- `single_video`: `VideoClassifier` and its parts: one video at a time, without Ray
- `head`: `EnsembleHead`, `HeadSettings`: the ensemble as the last step of the pipeline
- `compatibility`: `fitted_embeddings`, `fitted_runs`, `first_embeddings`: checks that features fit the ensemble
- `passes`: `PASSES_DIR`, `PASS_OF`, `plans_of`: where a progressive job keeps its two rounds
- `segments`: `Segment`, `segments_of`: parts of a video of equal length
- `stored_features`: `open_features`, `threshold`, `predictions`: classification for `jobs/evaluate.py --features`

The package may import `ensemble`, `uncertainty`, `pipeline` and the packages below them, but not `training`. This
`__init__` imports nothing, so that reports can read `passes` without loading the pipeline.
"""
