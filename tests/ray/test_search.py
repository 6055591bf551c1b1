"""Searches that finish, fail, are killed and continue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from tests.support import tuning_job
from tests.support.processes import DEADLINE_S, Job
from tests.support.training_job import features
from vidclf import cli, storage
from vidclf.config import FitConfig, TrainConfig, TuneConfig
from vidclf.ensemble import files
from vidclf.errors import ConfigError, RunStopped
from vidclf.reports import tuning_page
from vidclf.runs import output_allowlist, outputs
from vidclf.training.dataset import training_data
from vidclf.training.member_fit import fit_member
from vidclf.training.member_state import Epoch
from vidclf.tuning import search_progress, trial_files
from vidclf.tuning.ray_search import ContinuedASHA
from vidclf.tuning.settings_schedule import settings_at
from vidclf.tuning.space import parse_space
from vidclf.tuning.study import check_comparable, locations
from vidclf.tuning.trial_files import TrialRecord
from vidclf.tuning.tune import SearchResult

# Whole searches, each with processes of its own.
pytestmark = pytest.mark.system

SMOKE = yaml.safe_load((Path(__file__).resolve().parents[2] / "tune_configs" / "smoke.yaml").read_text())
TINY = {**tuning_job.SPACE, "epochs": 2, "batch_size": 48}
NUM_TRIALS = 5
ONE_AT_A_TIME = 1.5
"""CPUs per trial that leave no room for a second trial on the two CPUs of the test session. A trial then has one thread
and takes over the worker of the trial before it. Two threads of a model this small only wait for each other."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tune") / "search"


@pytest.fixture(scope="module")
def search(ray_session: None, output: Path) -> SearchResult:
    flags = {"num_samples": NUM_TRIALS, "cpus_per_trial": ONE_AT_A_TIME, "ensemble_from_trials": 2}
    result = tuning_job.run(output, SMOKE["space"], SMOKE["search"], **flags)
    assert result is not None
    tuning_page.publish(result)
    return result


def test_every_trial_has_its_row_and_its_curve(search: SearchResult, output: Path) -> None:
    rows = search.trials.to_pylist()
    assert len(rows) == NUM_TRIALS
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    assert [row["macro_f1"] for row in rows] == sorted((row["macro_f1"] for row in rows), reverse=True)
    for row in rows:
        assert len(row["epoch_macro_f1"]) == len(row["ended_s"]) == row["num_epochs"]
        assert (row["num_epochs"] == 6) == (row["status"] == "finished")
        assert row["macro_f1"] == row["epoch_macro_f1"][row["best_epoch"] - 1] == max(row["epoch_macro_f1"])
        assert (2 * row["hidden_dim"]) % row["num_attention_heads"] == 0
        assert len(list((output / "tensorboard" / f"trial_{row['trial_id']}").glob("events*"))) == 1


def test_a_search_holds_only_files_of_its_closed_list(search: SearchResult, output: Path) -> None:
    assert outputs.contents(output_allowlist.SEARCH, str(output)).foreign == []


def test_the_best_trains_as_its_trial_did(search: SearchResult, output: Path) -> None:
    best = search.trials.to_pylist()[0]
    config = cli.parse(TrainConfig, ["--config", str(output / "best.yaml"), "--output", "unused"])
    assert (config.features, config.split, config.lr) == (("/made",), "manifest", best["lr"])
    again = fit_member(training_data(features()), config, config.seed, torch.device("cpu"))
    num_epochs = best["num_epochs"]
    assert [epoch.val_macro_f1 for epoch in again.history][:num_epochs] == best["epoch_macro_f1"]
    assert [epoch.val_loss for epoch in again.history][:num_epochs] == best["epoch_val_loss"]


def test_the_ensemble_of_trials_classifies(search: SearchResult) -> None:
    assert search.ensemble is not None
    loaded = files.load(search.ensemble, torch.device("cpu"))
    rows = {row["trial_id"]: row for row in search.trials.to_pylist()}
    first = loaded.info.members[0]
    assert first.best is not None
    assert first.best["val_macro_f1"] == search.trials.to_pylist()[0]["macro_f1"]
    chosen = [rows[str(member.recipe).removeprefix("trial ")] for member in loaded.info.members]
    assert len({(row["hidden_dim"], row["num_attention_heads"]) for row in chosen}) == 1
    assert loaded([features().features[:3]]).probabilities_BC.shape == (3, 3)


def test_the_page_has_every_trial(search: SearchResult, output: Path) -> None:
    html = (output / "index.html").read_text()
    for row in search.trials.to_pylist():
        assert html.count(f'<tr data-trial="{row["trial_id"]}"') == 1
        # The table row, a line in the parallel coordinates, and one in each of two charts of curves.
        assert html.count('<polyline class="path"') == NUM_TRIALS
        assert html.count(f'data-trial="{row["trial_id"]}"') == 4
    assert "src=" not in html
    printed = tuning_page.table(search).splitlines()
    assert printed[0].split()[4:] == ["epochs", "status", "hidden_dim", "num_attention_heads", "lr"]
    assert printed[1].startswith(search.trials["trial_id"][0].as_py())


def test_the_same_job_again_does_nothing_and_another_is_refused(search: SearchResult, output: Path) -> None:
    before = (output / "trials.parquet").stat().st_mtime_ns
    again = tuning_job.run(output, SMOKE["space"], SMOKE["search"], num_samples=NUM_TRIALS)
    assert again is not None
    assert again.trials.equals(search.trials)
    assert (output / "trials.parquet").stat().st_mtime_ns == before
    with pytest.raises(ConfigError) as error:
        tuning_job.run(output, {**SMOKE["space"], "epochs": 7}, SMOKE["search"], num_samples=6)
    assert f"--output {output}: holds another search (num_samples: 5 != 6; space.epochs: 6 != 7); " in str(error.value)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="must be empty or a search to continue or to overwrite, holds"):
        tuning_job.run(tmp_path / "holiday", TINY, tuning_job.SEARCH)


def test_a_dry_run_says_what_would_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuning_job.run(tmp_path / "dry", TINY, tuning_job.SEARCH, num_samples=3, dry_run=True) is None
    assert f"would search 3 trials over dropout, lr by random into {tmp_path / 'dry'}" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()


def test_trials_that_want_too_much_memory_are_marked_and_the_others_end(ray_session: None, tmp_path: Path) -> None:
    widths = {"type": "choice", "categories": [2**31, 8]}
    grid = {"algorithm": "grid", "scheduler": "none"}
    space = {**TINY, "lr": 0.01, "dropout": 0.1, "hidden_dim": widths}
    result = tuning_job.run(tmp_path / "search", space, grid, num_samples=2, cpus_per_trial=ONE_AT_A_TIME)
    assert result is not None
    rows = result.trials.to_pylist()
    assert [(row["hidden_dim"], row["status"], row["num_epochs"]) for row in rows] == [
        (8, "finished", 2),
        (2**31, "out_of_memory", 0),
    ]
    assert "RuntimeError" in rows[1]["error"].splitlines()[0]
    assert "Traceback" in rows[1]["error"]
    tuning_page.publish(result)
    assert "out of memory</span>" in (tmp_path / "search" / "index.html").read_text()
    assert "first error: trial" in tuning_page.table(result)


def test_a_search_without_a_score_ends_with_the_first_error(ray_session: None, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match=r"none of 1 trials has a score; the first error: RuntimeError: "):
        tuning_job.run(tmp_path / "search", {**TINY, "hidden_dim": 2**31}, tuning_job.SEARCH, num_samples=1)
    assert not (tmp_path / "search" / "best.yaml").exists()


def test_population_based_training_ends_within_its_domains(ray_session: None, tmp_path: Path) -> None:
    space = {**TINY, "epochs": 4, "lr": {"type": "choice", "categories": [1e-9, 1e-2]}}
    pbt = {"algorithm": "pbt", "scheduler": "none", "perturbation_epochs": 2}
    result = tuning_job.run(tmp_path / "search", space, pbt, num_samples=2, cpus_per_trial=1.0)
    assert result is not None
    rows = result.trials.to_pylist()
    assert [row["num_epochs"] for row in rows] == [4, 4]
    assert all(0.1 <= row["dropout"] <= 0.3 for row in rows)
    for row in rows:
        # The settings of a row are those that were in force in its best epoch.
        schedule = json.loads(row["schedule"])
        assert [entry["first_epoch"] for entry in schedule] in ([1], [1, 3])
        settings = settings_at(schedule, row["best_epoch"])
        assert settings == json.loads(row["settings"])
        assert (row["lr"], row["dropout"]) == (settings["lr"], settings["dropout"])


def test_a_killed_worker_and_a_killed_search_cost_no_epoch_but_the_one_in_flight(
    tmp_path: Path, ray_session: str
) -> None:
    output = tmp_path / "search"
    first = Job(output, tmp_path / "first.log", "tests.support.tuning_job")
    try:
        first.until(lambda: list(output.glob("trials/*/state.pt")))
        worker = first.worker("ImplicitFunc")  # Ray Tune's name for a function that is a trial
        assert worker is not None
        worker.kill()
        # Some trials are finished and in Ray's record, and the last one is running.
        first.until(lambda: over(output) and len(begun(output)) == 3 and state_tells(output, over(output)))
    finally:
        first.kill()
    at_kill = {path.parent.name: path.read_bytes() for path in output.glob("trials/*/progress.json")}
    assert not (output / "trials.parquet").exists()
    second = Job(output, tmp_path / "second.log", "tests.support.tuning_job", ray_address=ray_session)
    assert second.process.wait(timeout=DEADLINE_S) == 0, (tmp_path / "second.log").read_text()

    rows = {row["trial_id"]: row for row in storage.read_table(str(output / "trials.parquet")).to_pylist()}
    assert len(rows) == 3
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert {path.name for path in (output / "trials").iterdir()} == rows.keys()
    ended = {name for name, content in at_kill.items() if json.loads(content)["is_done"]}
    assert 1 <= len(ended) < 3
    assert ended <= rows.keys()
    for name in rows.keys() & at_kill.keys():
        before = json.loads(at_kill[name])
        # Epochs from before the kill are unchanged, with the times at which they ended.
        done = len(before["history"])
        assert rows[name]["ended_s"][:done] == before["ended_s"]
        assert rows[name]["epoch_val_loss"][:done] == [epoch["val_loss"] for epoch in before["history"]]
    # Every trial has the same losses as without the kill.
    data = training_data(features())
    for row in rows.values():
        alone = fit_member(data, trial_files.fit_config(row), 0, torch.device("cpu"))
        assert [epoch.val_loss for epoch in alone.history] == row["epoch_val_loss"]


def begun(output: Path) -> list[Path]:
    return list(output.glob("trials/*/progress.json"))


def over(output: Path) -> list[str]:
    return [path.parent.name for path in begun(output) if json.loads(path.read_text())["is_done"]]


def state_tells(output: Path, names: list[str]) -> bool:
    """Whether Ray's own record of the search contains these finished trials."""
    states = sorted(output.glob("_ray_tune/search/experiment_state-*.json"))
    text = states[-1].read_text() if states else ""
    return all(name in text for name in names)


def test_a_search_whose_time_is_up_goes_on_when_submitted_again(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, space = tmp_path / "search", {**tuning_job.SPACE, "epochs": 8}
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")  # Ray records each trial as soon as it begins
    with monkeypatch.context() as patch:
        # Each trial that has begun is a second on this clock, so the time is up in the second of two trials.
        clock = SimpleNamespace(
            monotonic=lambda: float(len(storage.list_files(str(output / "trials"), "state.pt", recursive=True)))
        )
        patch.setattr(search_progress, "time", clock)
        first = tuning_job.run(
            output, space, tuning_job.SEARCH, num_samples=2, cpus_per_trial=ONE_AT_A_TIME, time_budget=1.5
        )
    assert first is not None
    assert not json.loads((output / "summary.json").read_text())["is_complete"]
    before = {row["trial_id"]: row["epoch_val_loss"] for row in first.trials.to_pylist()}
    assert [row["num_epochs"] for row in first.trials.to_pylist() if row["status"] == "finished"] == [8]
    assert len(before) == 2
    second = tuning_job.run(output, space, tuning_job.SEARCH, num_samples=2, cpus_per_trial=ONE_AT_A_TIME)
    assert second is not None
    after = {row["trial_id"]: row["epoch_val_loss"] for row in second.trials.to_pylist()}
    assert [len(losses) for losses in after.values()] == [8, 8]
    for trial_id, losses in before.items():
        assert after[trial_id][: len(losses)] == losses


def epoch(score: float) -> dict[str, Any]:
    values = {"attempt": 1, "number": 1, "lr": 0.1, "train_recall": [], "val_f1": [], "val_macro_f1": score}
    return {**dict.fromkeys((*Epoch.__dataclass_fields__,), 0.5), **values}


def test_asha_knows_after_a_kill_what_trials_had_at_each_rung(tmp_path: Path) -> None:
    for name, scores in (("a", [0.2, 0.5, 0.4, 0.6]), ("b", [0.3])):
        history = [epoch(score) for score in scores]
        trial_files.publish_progress(
            str(tmp_path),
            TrialRecord(trial_id=name, features="f", settings={}, started_s=0.0, history=history, ended_s=[0.0] * 4),
        )
    asha = ContinuedASHA(
        str(tmp_path), time_attr="epochs", metric="macro_f1", mode="max", max_t=9, grace_period=2, reduction_factor=2
    )
    for name in "abc":
        asha.on_trial_add(None, SimpleNamespace(trial_id=name))
    # At epochs 4 and 2: the best score so far of `a`. `b` was stopped earlier, and `c` had not begun.
    (bracket,) = asha._brackets
    assert bracket._rungs == [(8, {}), (4, {"a": 0.6}), (2, {"a": 0.5})]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", True),
        ("MemoryError", True),
        ("RuntimeError: shape '[4]' is invalid", False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: str, is_memory: bool) -> None:
    assert trial_files.is_out_of_memory(error) == is_memory


def test_features_are_found_by_directory_or_backbone() -> None:
    feature_set = features()
    other = replace(feature_set, spec=replace(feature_set.spec, backbone="resnet50"))
    features_of = {"/a": feature_set, "/b": other}
    chosen = parse_space({"space": {"features": {"type": "choice", "categories": ["resnet50", "/a"]}}})
    assert locations(chosen, features_of) == {"resnet50": "/b", "/a": "/a"}
    with pytest.raises(ConfigError, match="'resnet50' names 0 of /a \\(efficientnet_lite0\\)"):
        locations(chosen, {"/a": feature_set})
    with pytest.raises(ConfigError, match=r"--features /c: must be in space\.features, is not; leave it out"):
        locations(
            chosen, {**features_of, "/c": replace(feature_set, spec=replace(feature_set.spec, backbone="resnet101"))}
        )
    with pytest.raises(ConfigError, match=r"must be one directory, or space\.features a choice between them, got 2"):
        locations(parse_space({"space": {"lr": {"type": "uniform", "lower": 0.1, "upper": 1}}}), features_of)


def test_features_of_other_videos_or_splits_do_not_compare() -> None:
    feature_set = features()
    check_comparable({"/a": feature_set, "/b": feature_set})
    moved = replace(feature_set, splits=["val", *feature_set.splits[1:]])
    with pytest.raises(
        ConfigError, match="--features /b: must hold the same videos in the same splits as /a, 1 differ"
    ):
        check_comparable({"/a": feature_set, "/b": moved})


def test_when_the_best_rose() -> None:
    rows = [
        {"started_s": 100.0, "ended_s": [110.0, 130.0], "epoch_macro_f1": [0.5, 0.8]},
        {"started_s": 101.0, "ended_s": [120.0, 125.0, 140.0], "epoch_macro_f1": [0.4, 0.7, 0.6]},
    ]
    assert tuning_page.best_so_far(rows) == [(10.0, 1, 0.5), (25.0, 3, 0.7), (30.0, 4, 0.8), (40.0, 5, 0.8)]


def test_places_on_an_axis() -> None:
    assert tuning_page.places([1e-4, 1e-2, 1e-3])[0] == pytest.approx([0.0, 1.0, 0.5])
    assert tuning_page.places([0.1, 0.3, 0.2])[0] == pytest.approx([0.0, 1.0, 0.5])
    assert tuning_page.places([64, 256, 96]) == ([0.0, 1.0, 0.5], [(0.0, "64"), (0.5, "96"), (1.0, "256")])
    assert tuning_page.places([None, 24]) == ([1.0, 0.0], [(0.0, "24"), (1.0, "–")])
    assert tuning_page.places([[1.0], [1.0]]) == ([0.5, 0.5], [(0.5, "1")])
    assert tuning_page.places([True, False]) == ([1.0, 0.0], [(0.0, "False"), (1.0, "True")])


def test_settings_survive_the_table() -> None:
    config = FitConfig(num_frames=24, multi_scale=(0.5, 1.0), lr=1 / 3)
    assert trial_files.fit_config({"settings": json.dumps(trial_files.settings_of(config))}) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_samples": 0}, "--num-samples must be at least 1 trial, got 0"),
        ({"time_budget": 0.0}, "--time-budget must be above 0 seconds, got 0.0"),
        ({"features": ("a", "a")}, "--features must be each named once, got 'a,a'"),
        ({"ensemble_from_trials": 0}, "--ensemble-from-trials must be at least 1 member, got 0"),
        ({"cpus_per_trial": 0.0}, "--cpus-per-trial must be above 0 CPUs, got 0.0"),
    ],
)
def test_flags_have_their_ranges(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TuneConfig(**{"features": ("a",), "space": "s", "output": "o", **values})
    assert str(error.value) == message


def test_a_grid_larger_than_the_number_of_trials_is_refused(tmp_path: Path) -> None:
    space = {**TINY, "dropout": 0.1, "lr": {"type": "choice", "categories": [0.1, 0.01, 0.001]}}
    with pytest.raises(ConfigError, match="--num-samples must be at least 3, the points of this grid, got 2"):
        tuning_job.run(tmp_path / "grid", space, {"algorithm": "grid"}, num_samples=2)
