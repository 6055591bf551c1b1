from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.ensembles import write_small_ensemble
from vidclf.learning import ensemble
from vidclf.learning.halved import Probe

CPU = torch.device("cpu")


def sequences(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.maximum(generator.normal(size=(length, 1280)), 0).astype(np.float16) for length in lengths]


def with_probe(directory: Path, shift: float = 0.0) -> str:
    """A small ensemble whose probe's answers are its own in float32, moved by `shift`."""
    location = write_small_ensemble(directory, ["A", "B"], 4)
    loaded = ensemble.load(location, CPU)
    videos = sequences([4, 3, 4])
    members = [ensemble.load_member(location, loaded.info, index).eval() for index in range(2)]
    logits_VMBC, _ = ensemble.run_members(members, [0, 0], [videos], ["original"], CPU)
    probabilities_BC = logits_VMBC[0].softmax(dim=2).mean(dim=0).numpy() + np.float32([shift, -shift])
    probe = Probe(sequences_S=[videos], probabilities_BC=probabilities_BC)
    digest = ensemble.write_trust(location, replace(loaded.trust, probe=probe))
    ensemble.write_info(location, replace(loaded.info, trust={**loaded.info.trust, "digest": digest}))
    return location


def test_the_probe_is_the_videos_that_are_least_sure() -> None:
    probabilities_BC = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.45, 0.55], *[[1.0, 0.0]] * 6], np.float32)
    videos = sequences([4, 2, 3, 1, *[2] * 6])
    probe = Probe.of_least_sure([videos], probabilities_BC)
    assert [len(sequence) for sequence in probe.sequences_S[0]] == [2, 1, 3, 4, 2, 2, 2, 2]
    assert probe.probabilities_BC[:4, 0].tolist() == pytest.approx([0.5, 0.45, 0.3, 0.9])


def test_a_probe_that_is_written_is_read() -> None:
    videos = sequences([4, 2, 3])
    wide = [np.ones((len(sequence), 2048), np.float16) * index for index, sequence in enumerate(videos)]
    probe = Probe(sequences_S=[videos, wide], probabilities_BC=np.array([[0.2, 0.8]] * 3, np.float32))
    read = Probe.read(probe.arrays(), 2)
    assert read is not None
    for own, expected in zip(read.sequences_S, probe.sequences_S, strict=True):
        assert [rows_TD.tolist() for rows_TD in own] == [rows_TD.tolist() for rows_TD in expected]
    assert read.probabilities_BC.tolist() == probe.probabilities_BC.tolist()
    assert Probe.read({}, 1) is None


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([[0.70, 0.30], [0.505, 0.495]], True),
        ([[0.709, 0.291], [0.505, 0.495]], True),
        ([[0.715, 0.285], [0.505, 0.495]], False),
        ([[0.70, 0.30], [0.499, 0.501]], False),
    ],
)
def test_a_probe_agrees_to_a_hundredth_and_on_every_class(probabilities: list[list[float]], expected: bool) -> None:
    probe = Probe(sequences_S=[], probabilities_BC=np.array([[0.70, 0.30], [0.505, 0.495]], np.float32))
    assert probe.agrees(np.array(probabilities, np.float32)) is expected


@pytest.mark.parametrize(
    ("precision", "has_bf16", "shift", "expected"),
    [
        ("auto", True, 0.0, torch.bfloat16),
        ("auto", True, 0.02, torch.float32),
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
    monkeypatch.setattr(ensemble, "has_bf16", lambda: has_bf16)
    location = with_probe(tmp_path, shift)
    assert ensemble.load(location, CPU, precision).dtype == expected


def test_an_ensemble_without_a_probe_stays_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "has_bf16", lambda: True)
    assert ensemble.load(write_small_ensemble(tmp_path, ["A", "B"], 4), CPU, "auto").dtype == torch.float32


def test_probabilities_in_bf16_are_nearly_those_in_fp32(tmp_path: Path) -> None:
    location = with_probe(tmp_path)
    videos = sequences([4, 4, 2, 3])
    exact, near = (ensemble.load(location, CPU, precision)([videos], tta=True) for precision in ("fp32", "bf16"))
    drift_BC = np.abs(exact.probabilities_BC - near.probabilities_BC)
    assert 0 < drift_BC.max() < 0.01
    assert near.probabilities_BC.sum(axis=1) == pytest.approx([1.0] * 4, abs=1e-6)
    assert [row.dtype for row in near.attention] == [np.float32] * 4
