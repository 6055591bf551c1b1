"""Members in bfloat16, and the probe that decides about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.ensembles import with_digest, write_small_ensemble
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.ensemble import calibration_file, files, info
from vidclf.ensemble.bf16 import PrecisionProbe

CPU = torch.device("cpu")


def sequences(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.maximum(generator.normal(size=(length, 1280)), 0).astype(np.float16) for length in lengths]


def with_probe(directory: Path, shift: float = 0.0, view: int = 0) -> str:
    """A small ensemble whose probe holds its own float32 probabilities, shifted by `shift` in one view."""
    location = write_small_ensemble(directory, ["A", "B"], 4)
    loaded = files.load(location, CPU)
    videos = sequences([4, 3, 4])
    expected_VBC = loaded([videos], tta=True).view_probabilities_VBC.copy()
    expected_VBC[view] += np.float32([shift, -shift])
    probe = PrecisionProbe(sequences_S=[videos], probabilities_VBC=expected_VBC)
    digest = calibration_file.write_trust(location, replace(loaded.trust, probe=probe))
    info.write_info(location, with_digest(loaded.info, digest))
    return location


def test_the_probe_is_the_videos_that_are_least_sure() -> None:
    probabilities_BC = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.45, 0.55], *[[1.0, 0.0]] * 6], np.float32)
    videos = sequences([4, 2, 3, 1, *[2] * 6])
    # The margins in the first view decide. In the second view all margins are equal.
    probe = PrecisionProbe.of_least_sure([videos], np.stack([probabilities_BC, np.full((10, 2), 0.5, np.float32)]))
    assert [len(sequence) for sequence in probe.sequences_S[0]] == [2, 1, 3, 4, 2, 2, 2, 2]
    assert probe.probabilities_VBC[0, :4, 0].tolist() == pytest.approx([0.5, 0.45, 0.3, 0.9])
    assert probe.probabilities_VBC.shape == (2, 8, 2)


def test_a_probe_that_is_written_is_read() -> None:
    videos = sequences([4, 2, 3])
    wide = [np.ones((len(sequence), 2048), np.float16) * index for index, sequence in enumerate(videos)]
    probe = PrecisionProbe(sequences_S=[videos, wide], probabilities_VBC=np.array([[[0.2, 0.8]] * 3] * 4, np.float32))
    read = PrecisionProbe.read(probe.arrays(), 2)
    assert read is not None
    for sequences_read, expected in zip(read.sequences_S, probe.sequences_S, strict=True):
        assert [rows_TD.tolist() for rows_TD in sequences_read] == [rows_TD.tolist() for rows_TD in expected]
    assert read.probabilities_VBC.tolist() == probe.probabilities_VBC.tolist()
    assert PrecisionProbe.read({}, 1) is None


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([[0.70, 0.30], [0.505, 0.495]], True),
        ([[0.709, 0.291], [0.505, 0.495]], True),
        ([[0.715, 0.285], [0.505, 0.495]], False),
        # Another top class, but by a change that is allowed elsewhere too.
        ([[0.70, 0.30], [0.499, 0.501]], True),
        ([[0.70, 0.30], [0.494, 0.506]], False),
    ],
)
def test_a_probe_agrees_to_a_hundredth(probabilities: list[list[float]], expected: bool) -> None:
    expected_VBC = np.array([[[0.70, 0.30], [0.505, 0.495]]] * 2, np.float32)
    others_VBC = expected_VBC.copy()
    others_VBC[1] = probabilities
    assert PrecisionProbe(sequences_S=[], probabilities_VBC=expected_VBC).agrees(others_VBC) is expected


@pytest.mark.parametrize(
    ("precision", "has_bf16", "shift", "expected"),
    [
        ("auto", True, 0.0, torch.bfloat16),
        ("auto", True, 0.02, torch.float32),
        ("auto", True, -0.02, torch.float32),
        ("auto", False, 0.0, torch.float32),
        ("fp32", True, 0.0, torch.float32),
        ("bf16", False, 0.02, torch.bfloat16),
    ],
)
def test_members_take_bf16_where_the_probe_agrees(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    has_bf16: bool,
    shift: float,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(files, "has_bf16", lambda: has_bf16)
    location = with_probe(tmp_path, shift)
    assert files.load(location, CPU, precision).dtype == expected


def test_every_view_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "has_bf16", lambda: True)
    assert files.load(with_probe(tmp_path, 0.02, view=3), CPU, "auto").dtype == torch.float32


def test_members_are_in_fp32_on_other_devices(tmp_path: Path) -> None:
    assert files.load(with_probe(tmp_path), torch.device("meta"), "bf16").dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "engine"),
    [
        ("auto", "torch cpu bf16"),
        ("int8", "torch cpu bf16"),
        ("bf16", "torch cpu bf16"),
        ("fp32", "torch cpu fp32"),
    ],
)
def test_a_head_takes_a_jobs_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, engine: str
) -> None:
    monkeypatch.setattr(files, "has_bf16", lambda: True)
    # The caller chooses the device, whether or not torch sees a GPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = HeadSettings(tta=False, trust_threshold=0.0, segments_s=None)
    assert EnsembleHead(with_probe(tmp_path), settings, "cpu", precision=precision).engine == engine


def test_a_head_on_another_device_does_without_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted() -> bool:
        raise AssertionError("OpenVINO was asked")

    monkeypatch.setattr(files, "has_bf16", unwanted)
    assert files.load(with_probe(tmp_path), torch.device("meta"), "auto").dtype == torch.float32


@pytest.mark.gpu
def test_a_head_on_a_gpu_gives_the_cpus_probabilities(tmp_path: Path) -> None:
    location = with_probe(tmp_path)
    videos = sequences([4, 4, 2, 3])
    on_cpu, on_gpu = (files.load(location, torch.device(name))([videos], tta=True) for name in ("cpu", "cuda"))
    assert on_gpu.probabilities_BC == pytest.approx(on_cpu.probabilities_BC, abs=1e-3)


def test_an_ensemble_without_a_probe_stays_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "has_bf16", lambda: True)
    assert files.load(write_small_ensemble(tmp_path, ["A", "B"], 4), CPU, "auto").dtype == torch.float32


def test_probabilities_in_bf16_are_nearly_those_in_fp32(tmp_path: Path) -> None:
    location = with_probe(tmp_path)
    videos = sequences([4, 4, 2, 3])
    exact, near = (files.load(location, CPU, precision)([videos], tta=True) for precision in ("fp32", "bf16"))
    drift_BC = np.abs(exact.probabilities_BC - near.probabilities_BC)
    assert 0 < drift_BC.max() < 0.01
    assert near.probabilities_BC.sum(axis=1) == pytest.approx([1.0] * 4, abs=1e-6)
    assert [row.dtype for row in near.attention] == [np.float32] * 4
