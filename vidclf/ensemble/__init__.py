"""The trained classifier: an ensemble of temporal models with its calibration, on disk and in memory.

Public names:

- `files`: `load`, `load_member`, `write_member`; `checked`: `read_checked` checks an ensemble before a job
- `inference`: `Ensemble`, `EnsembleOutput`, `run_members`, `vote`
- `info`: `EnsembleInfo`, `MembersInfo`, `read_info`, `write_info`; `member_record`: `MemberRecord`
- `calibration_file`: `TrustData`, `read_trust`, `write_trust`
- `temporal_model`: `TemporalClassifier`, `pad`; `views`: `VIEWS`, `fit_weights`; `bf16`: `PrecisionProbe`
- `split_record`: `SplitRecord`, `read_record`; `held_out`: `decide`, `held_out_rows` (which videos are held out)
- `reference_checkpoints` (models of an older system): `read`, `class_names`

The package may import features, backbones (never a network), uncertainty, storage, config and schema. It knows nothing
of training and of Ray. Modules that compute with members import torch; `info`, `calibration_file`, `checked`, `views`,
`member_record`, `split_record` and `held_out` do not.
"""
