"""Sources of the engines that CNN workers run."""

from __future__ import annotations

from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.engines import conversion_source
from vidclf.video.sampling import SamplingPlan


def test_the_sampling_makes_no_difference_to_a_conversion() -> None:
    sparse, default = (
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "0" * 64, plan)
        for plan in (SamplingPlan(num_frames=4), SamplingPlan())
    )
    assert sparse.key != default.key
    assert conversion_source(sparse) == conversion_source(default)
