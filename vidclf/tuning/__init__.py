"""Hyperparameter search over model sizes and training settings, and an ensemble from its best trials (trained models).

Import from here:

- `tune`: `tune` (the job), `SearchResult`
- `space`: `read_space`, `Space`, `Domain` (the YAML search space)
- `trial_files`: `trials.parquet`, `best.yaml` and the files of each trial
- `parameter_importance`: `importances`

May import `training` and the packages below it. Ray is imported only in `tune`, `search_progress`, `ray_search` and
`trial_worker`.
"""
