"""Outputs: files that a job deletes, files that it never touches, and directories that it refuses."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidclf import cli, preflight, schema, storage
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.config import (
    ClassifyConfig,
    DiffConfig,
    EvaluateConfig,
    ExtractConfig,
    IndexConfig,
    PlanConfig,
    QuantizeConfig,
    TrainConfig,
    TuneConfig,
)
from vidclf.errors import ConfigError
from vidclf.runs import output_allowlist, outputs
from vidclf.runs.lease import Output
from vidclf.runs.output_allowlist import FileKind, Kind

SHARD = f"part-{'0' * 32}-000000.parquet"
HALF_WRITTEN = f"{SHARD}.{'f' * 32}.tmp"


def write(path: Path, content: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_table(path: Path, columns: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns.empty_table(), path)


def make_run(path: Path, ensemble_id: str | None = None) -> list[str]:
    """Write a run of features, or of predictions by `ensemble_id`; return the names of its files."""
    write(path / "run_identity.json", json.dumps({"feature_key": "k", "columns": {}, "ensemble_id": ensemble_id}))
    write_table(path / "manifest.parquet", schema.MANIFEST)
    names = ["summary.json", SHARD, HALF_WRITTEN, f"quarantine/{SHARD}", "_checkpoint/abc", "run_config.yaml"]
    for name in names:
        write(path / name)
    return [*names, "run_identity.json", "manifest.parquet"]


def make_predictions(path: Path) -> list[str]:
    names = [f"segments/{SHARD}", "pending.parquet"]
    for name in names:
        write(path / name)
    return [*names, *make_run(path, "e1")]


def make_ensemble(path: Path) -> list[str]:
    write(path / "ensemble.json", json.dumps({"ensemble_id": "e", "classes": [], "members": []}))
    write(path / "member_0.json", json.dumps({"member": {"recipe": "abc"}}))
    write_table(path / "splits.parquet", schema.SPLIT_TABLE)
    names = ["member_0.safetensors", "trust.safetensors", "leakage.parquet", "run_config.yaml"]
    names += ["tensorboard/member_0/events.out.tfevents.1.host", "_ray_train/member_0/x.json"]
    for name in names:
        write(path / name)
    return [*names, "ensemble.json", "member_0.json", "splits.parquet"]


def make_search(path: Path) -> list[str]:
    write(path / "study.json", json.dumps({"num_samples": 1, "seed": 0, "split": "manifest", "features": {}}))
    names = ["summary.json", "best.yaml", "trials.parquet", "index.html", "trials/0a1b2c3d/state.pt", "_ray_tune/s/x"]
    write(path / "ensemble/member_0.json", json.dumps({"member": {"recipe": "trial 0a1b2c3d"}}))
    names += ["ensemble/member_0.safetensors", "tensorboard/trial_0a1b2c3d/events.out.tfevents.1.host"]
    for name in names:
        write(path / name)
    return [*names, "study.json", "ensemble/member_0.json"]


def make_report(path: Path) -> list[str]:
    write(path / "metrics.json", json.dumps(dict.fromkeys(("headline", "per_split", "detail", "classes"))))
    for name in ("index.html", "misclassified.csv", "abstained.csv", "predictions.parquet"):
        write(path / name)
    return ["metrics.json", "index.html", "misclassified.csv", "abstained.csv", "predictions.parquet"]


def make_comparison(path: Path) -> list[str]:
    write(path / "diff.json", json.dumps(dict.fromkeys(("overall", "transitions", "verdicts"))))
    for name in ("index.html", "flipped.parquet"):
        write(path / name)
    return ["diff.json", "index.html", "flipped.parquet"]


MAKERS: list[tuple[Kind, Callable[[Path], list[str]]]] = [
    (output_allowlist.FEATURES, make_run),
    (output_allowlist.PREDICTIONS, make_predictions),
    (output_allowlist.ENSEMBLE, make_ensemble),
    (output_allowlist.SEARCH, make_search),
    (output_allowlist.REPORT, make_report),
    (output_allowlist.COMPARISON, make_comparison),
]


def files_in(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_symlink() or each.is_file())


IN_FLIGHT = [f"_lease.json.{'0a' * 16}.tmp", f".vidclf-{'0a' * 16}.probe"]


@pytest.mark.parametrize("name", IN_FLIGHT)
def test_a_file_of_a_job_that_takes_its_lease_is_not_foreign_and_stays(tmp_path: Path, name: str) -> None:
    output = str(tmp_path / "run")
    write(tmp_path / "run" / name)
    assert outputs.check(output_allowlist.FEATURES, "--output", output).foreign == []
    outputs.begin(output_allowlist.REPORT, output)
    outputs.clear(output_allowlist.REPORT, "--output", output)
    assert files_in(tmp_path / "run") == [name]
    assert outputs.would_delete(output_allowlist.REPORT, output) == ""
    assert storage.list_files(output) == []
    write(tmp_path / "run" / "notes")
    storage.delete_tree(output)
    assert files_in(tmp_path / "run") == [name]


@pytest.mark.parametrize("name", ["_lease.json.tmp", ".vidclf-0a.probe", f"x.vidclf-{'0a' * 16}.probe", ".vidclf"])
def test_a_name_that_only_resembles_one_of_a_lease_is_foreign(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ConfigError, match=f"holds {name}; choose another"):
        outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path))


@pytest.mark.parametrize(("kind", "make"), MAKERS)
def test_a_job_deletes_all_that_it_wrote_its_mark_last(
    tmp_path: Path, kind: Kind, make: Callable[[Path], list[str]]
) -> None:
    names = make(tmp_path)
    contents = outputs.contents(kind, str(tmp_path))
    assert sorted(contents.job_files) == sorted(names)
    assert contents.foreign == []
    assert contents.job_files[-1] in {mark.name for part in kind.parts for mark in part.marks} | {
        "ensemble/member_0.json"
    }
    outputs.clear(kind, "--output", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "make"), MAKERS)
@pytest.mark.parametrize("foreign", ["notes.txt", "trials/2019/state.pt", "quarantine/photo.jpg", "ä\n.mp4"])
def test_a_foreign_file_is_named_and_nothing_is_deleted(
    tmp_path: Path, kind: Kind, make: Callable[[Path], list[str]], foreign: str
) -> None:
    make(tmp_path)
    write(tmp_path / foreign)
    before = files_in(tmp_path)
    assert "--overwrite" not in outputs.remedy(kind, str(tmp_path))
    shown = foreign.replace("\n", r"\n")
    with pytest.raises(ConfigError) as error:
        outputs.clear(kind, "--output", str(tmp_path))
    assert str(error.value) == (
        f"--output {tmp_path}: --overwrite deletes only what this job wrote, and the directory also holds {shown}; "
        "choose another directory, or move that away"
    )
    assert files_in(tmp_path) == before
    # Without the flag the job continues beside the foreign file.
    outputs.check(kind, "--output", str(tmp_path))


@pytest.mark.parametrize(("kind", "make"), MAKERS)
def test_what_another_job_wrote_is_foreign(tmp_path: Path, kind: Kind, make: Callable[[Path], list[str]]) -> None:
    make(tmp_path)
    for other, _ in MAKERS:
        if other is not kind:
            with pytest.raises(ConfigError, match="must be empty or"):
                outputs.check(other, "--output", str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (output_allowlist.FEATURES, ["manifest.parquet", "summary.json", SHARD]),
        (output_allowlist.ENSEMBLE, ["member_0.json", "member_list.txt", "splits.parquet"]),
        (output_allowlist.SEARCH, ["study.json", "index.html", "best.yaml"]),
        (output_allowlist.REPORT, ["index.html"]),
        (output_allowlist.REPORT, ["metrics.json", "index.html"]),
        (output_allowlist.COMPARISON, ["index.html"]),
    ],
)
def test_a_strangers_files_of_a_jobs_names_are_not_the_jobs(tmp_path: Path, kind: Kind, names: list[str]) -> None:
    for name in names:
        write(tmp_path / name, '{"mine": 1}')
    with pytest.raises(ConfigError) as error:
        outputs.check(kind, "--output", str(tmp_path))
    assert f"must be empty or {kind.name} to continue or to overwrite, holds {', '.join(sorted(names))}; choose" in str(
        error.value
    )


def test_the_layout_of_the_readme_is_refused_as_the_output_of_any_job(tmp_path: Path) -> None:
    write_table(tmp_path / "manifest.parquet", schema.MANIFEST)
    make_run(tmp_path / "features")
    make_ensemble(tmp_path / "ensemble")
    for kind, _ in MAKERS:
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=r"holds ensemble/_ray_train") as error:
                outputs.check(kind, "--output", str(tmp_path), overwrite=overwrite)
            assert "--overwrite" not in str(error.value).replace("to continue or to overwrite", "")


def test_a_run_of_several_backbones_owns_their_directories_and_not_the_manifest_beside_them(tmp_path: Path) -> None:
    for name in ("resnet50", "efficientnet_lite0"):
        make_run(tmp_path / name)
        (tmp_path / name / "run_config.yaml").unlink()
        (tmp_path / name / "_checkpoint/abc").unlink()
    write(tmp_path / "pending.parquet")
    outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path), overwrite=True)
    write_table(tmp_path / "manifest.parquet", schema.MANIFEST)
    with pytest.raises(ConfigError, match=r"also holds manifest\.parquet;"):
        outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path), overwrite=True)


def test_backbones_are_those_that_there_are() -> None:
    assert set(output_allowlist.BACKBONES) == set(FEATURE_DIMS)


def test_a_linked_output_is_emptied_and_stays_a_link(tmp_path: Path) -> None:
    make_run(tmp_path / "disk")
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    outputs.clear(output_allowlist.FEATURES, "--output", str(tmp_path / "run"))
    assert (tmp_path / "run").is_symlink()
    assert files_in(tmp_path / "disk") == []


def test_links_in_an_output_are_never_followed_nor_replaced(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    write(tmp_path / "photos/a.jpg")
    write(tmp_path / "photos/page.html")
    (tmp_path / "run/album").symlink_to(tmp_path / "photos")
    with pytest.raises(ConfigError, match="also holds album;"):
        outputs.clear(output_allowlist.FEATURES, "--output", str(tmp_path / "run"))
    (tmp_path / "run/segments").symlink_to(tmp_path / "photos")
    with pytest.raises(ConfigError, match="holds segments, which this job did not write and would take for its own"):
        outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path / "run"))
    make_report(tmp_path / "report")
    (tmp_path / "report/index.html").unlink()
    (tmp_path / "report/index.html").symlink_to(tmp_path / "photos/page.html")
    with pytest.raises(ConfigError, match=r"holds index\.html, which this job did not write"):
        outputs.check(output_allowlist.REPORT, "--output", str(tmp_path / "report"), can_overwrite=False)
    assert files_in(tmp_path / "photos") == ["a.jpg", "page.html"]


def test_a_strangers_shard_is_not_read_as_one_of_the_run(tmp_path: Path) -> None:
    make_run(tmp_path)
    write(tmp_path / "part-00000.snappy.parquet")
    with pytest.raises(ConfigError, match=r"holds part-00000\.snappy\.parquet, which this job did not write"):
        outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path))


def test_a_dry_run_lists_what_would_be_deleted(tmp_path: Path) -> None:
    make_comparison(tmp_path)
    text = outputs.would_delete(output_allowlist.COMPARISON, str(tmp_path))
    assert text == "\n".join(
        f"would delete {tmp_path}/{name}" for name in ("flipped.parquet", "index.html", "diff.json")
    )


def test_a_directory_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    scandir = os.scandir

    def denied(path: str) -> Any:
        if path.rstrip("/").endswith("quarantine"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(outputs.os, "scandir", denied)
    for overwrite in (False, True):
        with pytest.raises(ConfigError) as error:
            outputs.check(output_allowlist.FEATURES, "--output", str(tmp_path), overwrite=overwrite)
        assert str(error.value) == f"--output {tmp_path}/quarantine/: cannot be listed (Permission denied)"


def test_a_lease_is_of_every_output_and_outlives_its_deletion(tmp_path: Path) -> None:
    make_run(tmp_path)
    write(tmp_path / "_lease.json")
    write(tmp_path / "_lease/claim")
    outputs.clear(output_allowlist.FEATURES, "--output", str(tmp_path))
    assert files_in(tmp_path) == ["_lease.json", "_lease/claim"]
    outputs.check(output_allowlist.ENSEMBLE, "--output", str(tmp_path))


def test_files_are_replaced_only_where_the_job_wrote_them(tmp_path: Path) -> None:
    write(tmp_path / "mine.parquet", "years of work")
    write(tmp_path / "mine.yaml", "decode_workers: 1\nfavourite: blue\n")
    write_table(tmp_path / "table.parquet", schema.SPLIT_TABLE)
    write_table(tmp_path / "manifest.parquet", schema.MANIFEST)
    write(tmp_path / "pools.yaml", "# x\ndecode_workers: 1\ngpus_per_cnn_worker: 0.0\nprecision: auto\n")
    outputs.check_file(output_allowlist.MANIFEST, "--output", str(tmp_path / "manifest.parquet"))
    outputs.check_file(output_allowlist.POOLS, "--write", str(tmp_path / "pools.yaml"))
    outputs.check_file(output_allowlist.POOLS, "--write", str(tmp_path / "new.yaml"))
    make_run(tmp_path / "run")
    for name in ("mine.parquet", "table.parquet", "run/manifest.parquet"):
        with pytest.raises(ConfigError, match=r"exists and is not a manifest of jobs/index\.py; choose another name"):
            outputs.check_file(output_allowlist.MANIFEST, "--output", str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"exists and is not pools of jobs/plan\.py"):
        outputs.check_file(output_allowlist.POOLS, "--write", str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="must be a file, is a directory"):
        outputs.check_file(output_allowlist.POOLS, "--write", str(tmp_path))


def config_of(job: type, field: str, output: str, overwrite: bool, paths: dict[str, str]) -> Any:
    """A configuration of a job that reads `paths` and writes `output`, which its `field` names."""
    values: dict[type, dict[str, Any]] = {
        IndexConfig: {"input": paths["archive"]},
        ExtractConfig: {"manifest": paths["manifest"]},
        ClassifyConfig: {"features": (paths["features"],), "ensemble": paths["ensemble"]},
        TrainConfig: {"features": (paths["features"],)},
        TuneConfig: {"features": (paths["features"],), "space": paths["space"]},
        EvaluateConfig: {"features": (paths["features"],), "ensemble": paths["ensemble"]},
        DiffConfig: {"before": paths["predictions"], "after": paths["predictions"]},
        QuantizeConfig: {"input": paths["archive"], "backbone": "resnet50"},
        PlanConfig: {"input": paths["archive"]},
    }
    flags: dict[str, Any] = {"overwrite": True} if overwrite and "overwrite" in job.__dataclass_fields__ else {}
    if field == "save_features":
        values[ClassifyConfig] = {"input": paths["archive"], "ensemble": paths["ensemble"]}
        flags["output"] = paths["elsewhere"]
    return job(**values[job], **{field: output}, **flags)


OUTPUT_FIELDS = [(job, field) for job, fields in preflight.OUTPUTS.items() for field in fields]
"""Every output of every job that has one."""

FILE_ENDING = {IndexConfig: ".parquet", QuantizeConfig: ".safetensors", PlanConfig: ""}

USER_NAMES = (
    *("a.mp4", "b.jpg", "index.html", "summary.json", "manifest.parquet", "member_0.json", "member_list.csv"),
    *("part-0.parquet", "notes.tmp", "best.yaml", "study.json", "splits.parquet", "metrics.json", "ensemble.json"),
    *("predictions.parquet", "trials/1/state.pt", "tensorboard/run.log", "quarantine/part-a.parquet", "_state/x"),
    *("run_identity.json", "weights.safetensors", "run_config.yaml", "_vidclf.json", "ensemble/member_0.json"),
)


def names_of(kind: Kind, path: Path) -> bool:
    """Whether a path inside an output is in the closed list of its kind."""
    return any(output_allowlist.matches(f"{part.at}(?:{part.files})", str(path)) for part in kind.parts)


def content(path: Path) -> str | None:
    """The content of a file or the target of a link; None if there is neither."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return path.read_text("latin-1") if path.is_file() else None


def snapshot(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of change of a file or link; None if there is neither.

    They show that a file was replaced or written, and are read faster than its content.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def build_tree(root: Path, draw: random.Random) -> tuple[set[Path], dict[str, str]]:
    """Write nested directories of users, runs and ensembles at random; return the users' files and the jobs' inputs."""
    folders = [root]
    user_files: set[Path] = set()
    paths: dict[str, str] = {}
    for number in range(draw.randint(3, 6)):
        folders.append(draw.choice(folders) / draw.choice(["work", "films", "resnet50", "ensemble", f"d{number}"]))
    makers = dict(zip(("features", "predictions", "ensemble", "search", "report", "diff"), MAKERS, strict=True))
    outputs_of_jobs: dict[Path, Kind] = {}
    for name, (kind, make) in draw.sample(sorted(makers.items(), key=lambda item: item[0]), 6):
        folder = draw.choice(folders) / name
        paths[name] = str(folder)
        make(folder)
        outputs_of_jobs[folder] = kind
        folders.append(folder)
    for _ in range(draw.randint(4, 14)):
        folder, name = draw.choice(folders), draw.choice(USER_NAMES)
        path = folder / name
        # In a directory that a job wrote, a file with a name from the closed list counts as the job's.
        is_jobs = any(
            names_of(kind, path.relative_to(output))
            for output, kind in outputs_of_jobs.items()
            if output in path.parents
        )
        if is_jobs or path.exists() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if draw.random() < 0.2:
            path.symlink_to(draw.choice(folders))
        else:
            path.write_text(json.dumps({"years": draw.random()}))
        user_files.add(path)
    (root / "videos").mkdir(exist_ok=True)
    write(root / "videos/v.mp4")
    write(root / "space.yaml")
    write_table(root / "list.parquet", schema.MANIFEST)  # of index, which may replace it with --overwrite
    user_files |= {root / "videos/v.mp4", root / "space.yaml"}
    archive = draw.choice([folder for folder in folders if folder.exists()] + [root / "videos"])
    paths |= {"archive": str(archive), "manifest": str(root / "list.parquet"), "space": str(root / "space.yaml")}
    paths["elsewhere"] = str(root.parent / f"{root.name}-elsewhere")
    return user_files, paths


def run_job(config: Any, field: str, place: Path, templates: Path) -> bool:
    """Check the configuration, hold the lease, delete and write as the job would; whether anything was deleted.

    `templates` holds a complete output of each kind, in a directory with its name. Raises ConfigError if refused.
    """
    kind = preflight.OUTPUTS[type(config)][field]
    is_file = isinstance(kind, FileKind)
    overwrites = getattr(config, "overwrite", False)
    if isinstance(kind, Kind) and not (templates / kind.name / field).exists():
        {each.name: make for each, make in MAKERS if each is kind}[kind.name](templates / kind.name / field)
    with cli.checked_and_held(config, "job.py", lambda _: [Output(location=str(place), is_file=is_file)]):
        if isinstance(kind, FileKind):
            if not place.exists() or overwrites:
                storage.publish_bytes(outputs.real(str(place)), b"x")
            return False
        if overwrites:
            outputs.clear(kind, preflight.flag(field), str(place))
        # The files with the marks of the kind, so that the next job finds an output of this kind.
        for name in files_in(templates / kind.name / field):
            storage.publish_bytes(str(place / name), (templates / kind.name / field / name).read_bytes())
    return overwrites


def test_every_job_that_writes_has_a_closed_list() -> None:
    jobs = {path.stem for path in (Path(__file__).resolve().parents[3] / "jobs").glob("*.py")}
    assert {job.__name__.removesuffix("Config").lower() for job in preflight.OUTPUTS} == jobs - {"audit", "serve"}


@pytest.mark.parametrize("seed", range(6))
def test_no_job_harms_a_users_file_wherever_its_output_is(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    num_refused = num_cleared = num_written = 0
    for round_ in range(3):
        root = tmp_path / str(round_)
        user_files, paths = build_tree(root, draw)
        contents = {path: content(path) for path in user_files}
        before = {path: snapshot(path) for path in user_files}
        new = (root / "new", root / "new.parquet", root / "new.safetensors")
        places = sorted({*(p for p in root.rglob("*")), root, *new})
        choices = [(place, output, flag) for place in places for output in OUTPUT_FIELDS for flag in (False, True)]
        drawn = draw.sample(choices, min(len(choices), 200))
        # Last come outputs of the job's own kind, which it may clear unless the tree has put something into them.
        own = {TuneConfig: "search", TrainConfig: "ensemble", ClassifyConfig: "predictions", ExtractConfig: "features"}
        own |= {EvaluateConfig: "report", DiffConfig: "diff"}
        drawn += [(Path(paths[name]), (job, "output"), True) for job, name in own.items()]
        for place, (job, field), overwrite in drawn:
            ending = FILE_ENDING.get(job)
            if ending is not None and not str(place).endswith(ending):
                continue
            if not all(Path(location).exists() for name, location in paths.items() if name != "elsewhere"):
                break  # the job has overwritten an output of its own kind, as it may
            config = config_of(job, field, str(place), overwrite, paths)
            inputs = {
                path: snapshot(path)
                for _, where in preflight.named_inputs(config)
                for path in _under(Path(where))
                # An archive may hold its own manifest, which index may replace.
                if not (job is IndexConfig and path == root / "list.parquet")
            }
            try:
                num_cleared += run_job(config, field, place, tmp_path / "templates")
            except ConfigError:
                num_refused += 1
            else:
                num_written += 1
            assert {path: snapshot(path) for path in user_files} == before, (place, job, overwrite)
            assert {path: snapshot(path) for path in inputs} == inputs, (place, job, overwrite)
        assert {path: content(path) for path in user_files} == contents
    assert num_refused > 30
    assert num_written > num_cleared > 0


def _under(path: Path) -> list[Path]:
    """The file itself, or all files below a directory; links to directories are not followed."""
    if path.is_file():
        return [path]
    return [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
