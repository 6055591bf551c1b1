"""The check of an ensemble before a job: it accepts what loading accepts. (`test_files.py` has what both refuse.)"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.ensembles import write_small_ensemble
from vidclf.ensemble import files
from vidclf.ensemble.checked import read_checked
from vidclf.ensemble.info import read_info, write_info


def test_a_sound_ensemble_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_small_ensemble(tmp_path, ["A", "B"], 4, is_tiny=True)
    loaded = files.load(directory, torch.device("cpu"))
    monkeypatch.setattr(files, "load", lambda *arguments: pytest.fail("the ensemble was loaded"))
    info, trust = read_checked(directory)
    assert info == loaded.info
    np.testing.assert_array_equal(trust.full["plain"].trust_B, loaded.trust.full["plain"].trust_B)


def test_weights_in_half_precision_are_left_to_torch(tmp_path: Path) -> None:
    directory = write_small_ensemble(tmp_path, ["A", "B"], 4, num_members=1, is_tiny=True)
    info = read_info(directory)
    state = files.load_member(directory, info, 0).to(torch.bfloat16).state_dict()
    written = replace(info.members[0], digest=files.write_member(directory, 0, state))
    write_info(directory, replace(info, members=[written]))
    assert read_checked(directory)[0].members == [written]
