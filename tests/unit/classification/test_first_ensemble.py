"""What of a job's configuration is for the ensemble of the first look, and what for the job's own."""

from __future__ import annotations

from typing import Any

import pytest

from vidclf.classification.first_ensemble import first_config
from vidclf.config import ClassifyConfig
from vidclf.errors import ConfigError


def config(**values: Any) -> ClassifyConfig:
    return ClassifyConfig(
        **{"input": "i", "ensemble": "e", "first_ensemble": "/first", "progressive": True, "output": "o", **values}
    )


@pytest.mark.parametrize(
    ("weights", "expected"), [((), ()), (("a", "b"), ()), (("a", "b", "c"), ("c",)), (("a", "b", "c", "d"), ())]
)
def test_weights_behind_those_of_the_ensemble_are_for_the_first(
    weights: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    # The first ensemble has 1 backbone, the job's 2. Another number of weights is refused where the job's are read.
    own = first_config(config(weights=weights, backbone=("resnet50", "resnet101")), 2, 1)
    assert (own.ensemble, own.backbone, own.weights) == ("/first", (), expected)


def test_int8_is_for_the_second_look() -> None:
    found = {given: first_config(config(precision=given), 1, 1).precision for given in ("auto", "int8", "bf16", "fp32")}
    assert found == {"auto": "auto", "int8": "auto", "bf16": "bf16", "fp32": "fp32"}


def test_it_is_given_only_with_progressive() -> None:
    with pytest.raises(ConfigError, match=r"^--first-ensemble must be given only with --progressive, got '/first'$"):
        config(progressive=False)
