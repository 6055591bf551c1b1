"""Training: temporal models (the members of an ensemble) fitted on feature vectors, and calibration of the ensemble.

Import from here:

- `train`: `train` (the job)
- `member_fit`: `MemberFit`, `fit_member`, `predict` (one member, without Ray)
- `dataset`: `training_data`, `TrainingData`, `Batches`
- `leakage`: `assign_splits`, `SplitAssignment` (splits and near duplicates)
- `calibrate`: `calibrate`; `publish`: `publish_ensemble`
- `gpu_memory`, `tracking`, `state_writer`: used by `vidclf.tuning` too

May import `ensemble`, `uncertainty`, `features`, `runs`, `metrics` and the packages below them, but neither
`classification` nor `tuning`. Ray is imported only in `ray_members` and `member_worker`, which `train` imports. Most
modules import torch.
"""
