"""Run directories (outputs of extract and classify), and safe writing of any job's output.

Run directories: their files, state, audit and repair. Safe writing: leases (only one job at a time may write into an
output) and closed lists of the files that each job may write and delete.

May be imported from outside:

- `layout`: `Run`, `runs_in`, `shard_name`, the names of the files
- `state`: `RunState`, `read_state`, `check_finished`, `check_unique_rows`, `manifest_ids`, `rows_of`
- `audit`: `audit`, `Audit`, `report`
- `reconcile`: `reconcile`, `release`, `drop`, `unfinished`, `to_read`
- `content_checks`: `stale_videos`, `resized_videos`
- `newest_manifest`: `NewestManifest`
- `relocated`: `check_removed`, `removed_videos`, `replaced_videos`
- `summary`: `Performance`, `summarize`, `summary_text`, `stopped_text`
- `lease`: `held`, `guard`, `Guard`, `Output`, `LeaseTaken`
- `outputs`: `check`, `check_file`, `clear`, `begin`, `remedy`; `output_allowlist`: one `Kind` per job

Imports `storage`, `schema`, `arrow`, `progress`, `credentials`, `errors` and `video` (source files and their digests).
Must not import Ray or torch: jobs that only read a run start without them.
"""
