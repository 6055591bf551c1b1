"""Feature vectors on disk: how they were made (feature key), reading them back, HDF5 files.

The feature key is a digest of all settings that decide the features.

May be imported from outside:

- `spec`: `FeatureSpec`, `read_spec`, `specs_of`, `read_weights_location`
- `feature_set`: `FeatureSet`, `read_features`
- `lookup`: `FeatureLookup`
- `matching`: `check_specs`, `check_videos`, `check_sets`, `first_look`
- `columns`: `features_column`, `features_TD`
- `near_duplicates`: `video_means`, `unit_vectors`, `nearest`, `means_in`
- `hdf5`: `export`, `read`, `read_classes`, `check_exportable`, `SplitFeatures`

Imports `runs`, `backbones.catalog` (without torch), `video` and the packages below these. Must not import Ray or torch:
jobs that only check features start without them.
"""
