"""The decoder's version in the feature key, and the modules that do without a decoder."""

from __future__ import annotations

import re
import subprocess
import sys

import av
import pytest

from vidclf.video.decoder_version import decoder_version


def test_the_version_names_pyav_libavcodec_and_the_rules_for_pictures() -> None:
    assert decoder_version().startswith(f"pyav-{av.__version__}/libavcodec-")
    assert re.fullmatch(r"pyav-[\d.]+/libavcodec-\d+\.\d+\.\d+/pictures-4", decoder_version())


@pytest.mark.parametrize("module", ["vidclf.features.spec", "vidclf.pipeline.embed_stage"])
def test_features_are_read_and_a_cnn_worker_starts_without_pyav(module: str) -> None:
    script = f"import sys, {module}; print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
