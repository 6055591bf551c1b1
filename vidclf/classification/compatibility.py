"""Whether features are those that an ensemble was fitted on."""

from __future__ import annotations

from collections.abc import Sequence

from vidclf import ledger
from vidclf.config import ConfigError
from vidclf.features import beside, contents
from vidclf.features.store import read_spec
from vidclf.learning.ensemble import EnsembleInfo
from vidclf.schema import VIDEO_ID


def fitted_runs(locations: Sequence[str], info: EnsembleInfo) -> list[str]:
    """The directories of features in the order of the ensemble's backbones.

    Raises ConfigError unless there is a finished one for each, made as those that the members were
    fitted on, all of the same videos.
    """
    names = info.backbone_names
    specs = [read_spec(location) for location in locations]
    if sorted(spec.backbone for spec in specs) != sorted(names):
        raise ConfigError(
            f"--features {','.join(locations)}: must be a directory for each backbone that the ensemble was fitted on "
            f"({', '.join(names)}), are of {', '.join(spec.backbone for spec in specs)}"
        )
    run_of = {spec.backbone: (location, spec) for location, spec in zip(locations, specs, strict=True)}
    for fitted in info.backbones:
        location, spec = run_of[fitted.name]
        if spec.key != fitted.feature_spec.key:
            raise ConfigError(
                f"--features {location}: have key {spec.key}, the ensemble was fitted on {fitted.feature_spec.key} "
                f"({fitted.feature_spec.differences(spec)}); classify other features, or train again"
            )
        state = ledger.read_state(location)
        if state.num_pending:
            raise ConfigError(
                f"--features {location}: {state.num_pending} videos are pending; run jobs/extract.py again"
            )
    runs = [run_of[name][0] for name in names]
    if len(runs) > 1:
        told = [VIDEO_ID, "content_digest", "num_frames"]
        beside.check_videos(runs, [contents.rows_of(run, told) for run in runs])
    return runs
