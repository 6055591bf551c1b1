"""The `train` job: members, calibration, near duplicates across splits."""
