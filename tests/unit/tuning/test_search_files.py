"""Files of a search: no credentials, and no deletion of a user's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.support import training_job, tuning_job
from vidclf import storage
from vidclf.config import TuneConfig
from vidclf.errors import ConfigError
from vidclf.reports import tuning_page
from vidclf.training.member_fit import MemberFit
from vidclf.tuning import trial_files, trial_worker
from vidclf.tuning.study import STUDY_FILE, train_config
from vidclf.tuning.trial_files import TrialRecord
from vidclf.tuning.tune import PreparedSearch, _publish, _write_tables, prepare

TRIAL_ID = "0a1b2c3d"

LOCATION = "s3://KEY:SECRET@bucket/features"

MASKED = "s3://***@bucket/features"


def prepared(tmp_path: Path, *locations: str, **space: object) -> PreparedSearch:
    """A search on sixty random videos at each of `locations`, with one epoch per trial."""
    content = {"search": tuning_job.SEARCH, "space": {**tuning_job.SPACE, "epochs": 1, **space}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
    config = TuneConfig(
        features=locations,
        space=str(tmp_path / "space.yaml"),
        output=str(tmp_path / "tune"),
        num_samples=1,
        ensemble_from_trials=1,
    )
    return prepare(config, {location: training_job.features() for location in locations})


def write_trial(search: PreparedSearch, **values: object) -> None:
    """Train the only trial, with `values` beside lr and dropout, and write its files and the tables, like a search
    whose trials have ended."""
    study, output = search.study, search.study.config.output
    settings = study.space.settings({"lr": 0.005, "dropout": 0.2, **values})
    location = study.locations[settings.pop("features", None)]
    config = replace(train_config(study, location), **settings)
    fit = MemberFit(search.data[location], config, config.seed, torch.device("cpu"))
    fit.run_epoch()
    progress = TrialRecord(
        trial_id=TRIAL_ID, features=location, settings=trial_files.settings_of(config), started_s=0.0
    )
    trial_worker._update(progress, fit, num_recorded=0)
    trial_files.publish_progress(output, progress)
    trial_files.publish_state(output, TRIAL_ID, fit.snapshot())
    storage.publish_json(storage.join(output, STUDY_FILE), search.identity)
    searched = ["dropout", "lr", *values]
    _write_tables(study, [trial_files.row(output, TRIAL_ID, None, searched)], is_complete=True)


@pytest.mark.parametrize("is_searched", [True, False])
def test_the_page_of_a_search_names_no_absolute_path(tmp_path: Path, is_searched: bool) -> None:
    location, other = f"{tmp_path}/features", f"{tmp_path}/others"
    if is_searched:
        categories: dict[str, Any] = {"type": "choice", "categories": [location, other]}
        search = prepared(tmp_path, location, other, features=categories)
    else:
        search = prepared(tmp_path, location, features=location)
    write_trial(search, **({"features": location} if is_searched else {}))
    table = storage.read_table(f"{tmp_path}/tune/trials.parquet")
    tuning_page.publish(_publish(search.study, table, search, {location: "DEFAULT"}))
    html = (tmp_path / "tune/index.html").read_text()
    assert str(tmp_path) not in html
    value = "<dt>features</dt><dd>../features</dd>" if is_searched else "../features (fixed)</dd>"
    assert value in html
    assert "<span>ensemble</span>" in html


def test_no_file_of_a_search_has_credentials_and_a_users_file_stays(tmp_path: Path) -> None:
    search = prepared(tmp_path, LOCATION)
    write_trial(search)
    table = storage.read_table(f"{tmp_path}/tune/trials.parquet")
    for _ in range(2):  # the second time, an ensemble of trials and the user's file are there
        result = _publish(search.study, table, search, {MASKED: "DEFAULT"})
        (tmp_path / "tune/ensemble/notes.txt").write_text("mine")
    assert (tmp_path / "tune/ensemble/ensemble.json").exists()
    tuning_page.publish(result)
    paths = [path for path in (tmp_path / "tune").rglob("*") if path.is_file()]
    assert not [path for path in paths if b"SECRET" in path.read_bytes()]
    assert pq.read_table(tmp_path / "tune/trials.parquet")["features"].to_pylist() == [MASKED]
    best = (tmp_path / "tune/best.yaml").read_text()
    assert yaml.safe_load(best)["features"] == [MASKED]
    assert "# --features must be given again" in best
    printed = tuning_page.table(result).splitlines()
    assert printed[-2].endswith("/best.yaml --features … --output …")
    assert printed[-1] == "give --features again: the credentials of its location are not stored"


def test_a_location_with_new_credentials_continues_the_search(tmp_path: Path) -> None:
    space: dict[str, Any] = {"features": {"type": "choice", "categories": [LOCATION]}}
    search = prepared(tmp_path, LOCATION, **space)
    assert (search.study.locations, list(search.data)) == ({MASKED: MASKED}, [MASKED])
    storage.publish_json(f"{tmp_path}/tune/{STUDY_FILE}", search.identity)
    space["features"]["categories"] = ["s3://KEY:NEW@bucket/features"]
    again = prepared(tmp_path, "s3://KEY:NEW@bucket/features", **space)
    assert (again.is_begun, again.identity) == (True, search.identity)


def test_one_location_with_two_credentials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--features must be each named once"):
        prepared(tmp_path, LOCATION, "s3://KEY:NEW@bucket/features")
