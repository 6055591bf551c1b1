"""A directory for a model hub: it classifies as the ensemble does, names no videos, and has a valid card."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.jobs import refuse, succeed
from tests.unit.ensemble.test_model_card import head_of, trained
from vidclf import storage
from vidclf.ensemble import files
from vidclf.ensemble.info import EnsembleInfo, write_info
from vidclf.export import hub_directory
from vidclf.training.publish import publish_card

FILES = ["README.md", "_vidclf.json", "ensemble.json", "member_0.safetensors", "member_1.safetensors"]
FILES += ["trust.safetensors"]


def write_trained(directory: Path) -> EnsembleInfo:
    """A small ensemble with its card and a record of its splits."""
    info = trained(directory)
    publish_card(str(directory), info)
    write_info(str(directory), info)
    (directory / "member_0.json").write_text('{"member": {"recipe": "abc"}}')
    return info


def export(tmp_path: Path, *flags: str) -> str:
    command = ("export", "--ensemble", tmp_path / "e", "--to", "hub-directory", "--output", tmp_path / "hub")
    return succeed(*command, *flags).removeprefix(f"{tmp_path}/hub: ")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("_lease"))


def test_the_directory_classifies_and_a_second_export_changes_nothing(tmp_path: Path) -> None:
    info = write_trained(tmp_path / "e")
    head = f"ensemble {info.ensemble_id} with 2 members"
    assert export(tmp_path, "--dry-run") == f"{head}: would be written\n"
    assert not (tmp_path / "hub").exists()
    assert export(tmp_path) == f"{head}: written\n"
    assert names(tmp_path / "hub") == FILES
    assert (tmp_path / "hub" / "README.md").read_bytes() == (tmp_path / "e" / "README.md").read_bytes()
    for name in FILES:
        assert b".mp4" not in (tmp_path / "hub" / name).read_bytes()
    sequences = [[np.ones((4, 1280), np.float16)]]
    given, copied = (files.load(str(tmp_path / name), torch.device("cpu"))(sequences) for name in ("e", "hub"))
    assert copied.probabilities_BC.tolist() == given.probabilities_BC.tolist()
    times = {name: os.stat(tmp_path / "hub" / name).st_mtime_ns for name in FILES}
    assert export(tmp_path) == f"{head}: unchanged, it is there already\n"
    assert {name: os.stat(tmp_path / "hub" / name).st_mtime_ns for name in FILES} == times


def test_a_killed_export_leaves_no_ensemble_and_the_next_one_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = write_trained(tmp_path / "e")
    export(tmp_path)
    (tmp_path / "hub" / "member_2.safetensors").write_bytes(b"of an ensemble with more members")
    (tmp_path / "hub" / "trust.safetensors").write_bytes(b"other")
    publish = storage.publish_bytes

    def killed(location: str, content: bytes) -> None:
        if location.endswith("trust.safetensors"):
            raise KeyboardInterrupt
        publish(location, content)

    monkeypatch.setattr(storage, "publish_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        hub_directory.export_ensemble(str(tmp_path / "e"), str(tmp_path / "hub"), dry_run=False)
    assert "ensemble.json" not in names(tmp_path / "hub")
    monkeypatch.undo()
    assert export(tmp_path) == f"ensemble {info.ensemble_id} with 2 members: written\n"
    assert names(tmp_path / "hub") == FILES


def test_an_ensemble_without_a_card_gets_one_and_an_edited_card_stays(tmp_path: Path) -> None:
    write_trained(tmp_path / "e")
    written = (tmp_path / "e" / "README.md").read_bytes()
    (tmp_path / "e" / "README.md").unlink()
    export(tmp_path)
    card = tmp_path / "hub" / "README.md"
    assert card.read_bytes() == written
    edited = card.read_text().replace("license: unknown", "license: mit")
    card.write_text(edited)
    assert export(tmp_path).endswith(": unchanged, it is there already\n")
    (tmp_path / "hub" / "trust.safetensors").unlink()
    assert export(tmp_path).endswith(": written; its README.md was edited, so it stays as it is\n")
    assert card.read_text() == edited


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    write_trained(tmp_path / "e")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "notes.txt").write_text("mine")
    command = ("export", "--to", "hub-directory", "--output", tmp_path / "hub")
    error = refuse(*command, "--ensemble", tmp_path / "e")
    assert "must be empty or an ensemble for a hub to replace, holds notes.txt" in error
    assert "--ensemble must be given, and --run left out, with --to hub-directory" in refuse(*command, "--run", "r")


def test_the_hub_library_reads_the_metadata_of_the_card(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    write_trained(tmp_path / "e")
    export(tmp_path)
    path = tmp_path / "hub" / "README.md"
    assert hub.metadata_load(path) == head_of(path.read_text())
    data = hub.ModelCard.load(path).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("unknown", "vidclf", "video-classification")
    assert [(each.metric_type, each.metric_value, each.dataset_split) for each in data.eval_results] == [
        ("accuracy", 0.75, "validation"),
        ("f1", 0.5, "validation"),
    ]
