"""Wrong inputs and outputs are refused in one line, before torch and Ray are imported."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.pipeline.test_run_directory import empty_job, manifest
from tests.unit.runs.test_outputs import FILE_ENDING, make_ensemble, make_run, write
from vidclf import cli, preflight, ray_address
from vidclf.config import (
    AuditConfig,
    ClassifyConfig,
    DiffConfig,
    EvaluateConfig,
    ExportConfig,
    ExtractConfig,
    IndexConfig,
    PlanConfig,
    QuantizeConfig,
    ServeConfig,
    TrainConfig,
    TuneConfig,
)
from vidclf.errors import ConfigError, RunStopped
from vidclf.features.feature_set import FeatureSet
from vidclf.runs.output_allowlist import FileKind

ROOT = Path(__file__).resolve().parents[2]

REFUSED = {
    "index": "--input {file} --output /proc/no/m.parquet",
    "extract": "--manifest {file} --output {file}/x",
    "train": "--features {run} --output {file}",
    "tune": "--features {run} --space {file} --output /proc/no",
    "classify": "--features {run} --ensemble {file} --output {new}",
    "evaluate": "--features {run} --ensemble {run} --output {new}/../list.txt/report",
    "diff": "--before {file} --after {run} --output {new}",
    "export": "--run {file} --to csv --output {new}.csv",
    "quantize": "--input {file} --backbone resnet50 --output /proc/no.safetensors",
    "plan": "--input {file} --write {file}",
    "serve": "--ensemble {file}",
    "audit": "--run {file}",
}

IN_ONE_PROCESS = """
import runpy, sys
for line in sys.stdin.read().splitlines():
    sys.argv = line.split()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        print(stop.code)
heavy = {"torch", "ray", "openvino", "h5py", "scipy", "av", "aiohttp", "cv2", "sklearn", "flask"}
print(sorted(heavy & set(sys.modules)))
"""


def test_every_job_refuses_in_one_line_without_heavy_imports(tmp_path: Path) -> None:
    write(tmp_path / "list.txt")
    make_run(tmp_path / "run")
    places = {"file": tmp_path / "list.txt", "run": tmp_path / "run", "new": tmp_path / "new"}
    lines = [f"{ROOT}/jobs/{job}.py {text.format(**places)}" for job, text in REFUSED.items()]
    environ = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS], input="\n".join(lines), capture_output=True, text=True, env=environ
    )
    assert done.stdout.splitlines() == ["2"] * len(REFUSED) + ["[]"], done.stderr
    assert [line.split(": error: ")[0] for line in done.stderr.splitlines()] == [f"{job}.py" for job in REFUSED]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "run"]


def test_an_output_that_cannot_be_written_is_refused_by_a_probe(tmp_path: Path) -> None:
    write(tmp_path / "list.parquet")

    def refused(output: str) -> str:
        with pytest.raises(ConfigError) as error:
            preflight.check(ExtractConfig(manifest=str(tmp_path / "list.parquet"), output=output, dry_run=True))
        return str(error.value)

    write(tmp_path / "file")
    assert refused(f"{tmp_path}/file/x/y") == (
        f"--output {tmp_path}/file/x/y: is below {tmp_path}/file, which is not a directory; choose another place"
    )
    assert (
        refused(f"{tmp_path}/file") == f"--output {tmp_path}/file: must be a directory, is a file; choose another name"
    )
    assert refused("/proc/no").startswith("--output /proc/no: cannot be written (")
    preflight.check(ExtractConfig(manifest=str(tmp_path / "list.parquet"), output=f"{tmp_path}/a/b", dry_run=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "list.parquet"]


def test_inputs_of_the_wrong_sort_or_unreadable_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file")

    def refused(config: Any) -> str:
        with pytest.raises(ConfigError) as error:
            preflight.check(config)
        return str(error.value)

    new = str(tmp_path / "new")
    message = refused(ExtractConfig(manifest=str(tmp_path), output=new, dry_run=True))
    assert message == f"--manifest {tmp_path}: must be a file, is a directory"
    message = refused(TrainConfig(features=(f"{tmp_path}/file",), output=new, dry_run=True))
    assert message == f"--features {tmp_path}/file: must be a directory, is a file"

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(preflight.os, "open", denied)
    message = refused(ExtractConfig(manifest=f"{tmp_path}/file", output=new, dry_run=True))
    assert message == f"--manifest {tmp_path}/file: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("features", "output", "words"),
    [("run", "run", "is"), ("run/inner", "run", "holds"), ("run", "run/inner", "lies in"), ("run", "link", "is")],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_apart_from_every_input(
    tmp_path: Path, features: str, output: str, words: str, overwrite: bool
) -> None:
    make_ensemble(tmp_path / "ensemble")
    make_run(tmp_path / "run/inner")
    make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    config = ClassifyConfig(
        features=(f"{tmp_path}/{features}",),
        ensemble=f"{tmp_path}/ensemble",
        output=f"{tmp_path}/{output}",
        overwrite=overwrite,
        dry_run=True,
    )
    with pytest.raises(ConfigError) as error:
        preflight.check(config)
    assert str(error.value) == (
        f"--output {tmp_path}/{output}: {words} --features {tmp_path}/{features}; choose a directory apart from it"
    )


def test_a_configuration_in_the_output_is_refused_only_where_it_would_be_deleted(tmp_path: Path) -> None:
    make_ensemble(tmp_path / "ensemble")
    make_run(tmp_path / "run")
    file = f"{tmp_path}/ensemble/run_config.yaml"
    config = TrainConfig(features=(f"{tmp_path}/run",), output=f"{tmp_path}/ensemble", overwrite=True, dry_run=True)
    with pytest.raises(ConfigError, match=f"holds --config {file}"):
        preflight.check(config, file)
    preflight.check(TrainConfig(features=config.features, output=config.output, dry_run=True), file)


ELSEWHERE: list[tuple[type, dict[str, Any]]] = [
    (
        IndexConfig,
        {"input": "/else/i", "continue_from": "/else/c", "labels": "/else/l", "taxonomy": "/else/t"},
    ),
    (ExtractConfig, {"manifest": "/else/m", "backbone": ("resnet50",), "weights": ("/else/w",)}),
    (ClassifyConfig, {"input": "/else/i", "ensemble": "/else/e", "weights": ("/else/w",)}),
    (ClassifyConfig, {"manifest": "/else/m", "ensemble": "/else/e"}),
    (
        ClassifyConfig,
        {"manifest": "/else/m", "ensemble": "/else/e", "progressive": True, "first_ensemble": "/else/first"},
    ),
    (ClassifyConfig, {"features": ("/else/f",), "ensemble": "/else/e"}),
    (
        ClassifyConfig,
        {"input": "/else/i", "labels": "/else/l", "calibrate_with": "/else/c", "backbone": ("open_clip/RN50:openai",)},
    ),
    (TrainConfig, {"features": ("/else/f",), "first_look": ("/else/l",)}),
    (TrainConfig, {"features": ("/else/f",), "import_reference": "/else/r", "reference_classes": ("/else/c",)}),
    (TuneConfig, {"features": ("/else/f",), "space": "/else/s"}),
    (EvaluateConfig, {"predictions": "/else/p", "manifest": "/else/m", "ensemble": "/else/e"}),
    (EvaluateConfig, {"features": ("/else/f",), "ensemble": "/else/e"}),
    (DiffConfig, {"before": "/else/b", "after": "/else/a"}),
    (QuantizeConfig, {"input": "/else/i", "backbone": "resnet50", "weights": "/else/w"}),
    (PlanConfig, {"input": "/else/i", "weights": "/else/w", "prices": "/else/p", "deadline": 1.0}),
    (AuditConfig, {"run": "/else/r"}),
    (ExportConfig, {"run": "/else/r", "to": "delta"}),
    (ExportConfig, {"ensemble": "/else/e", "to": "hub-directory"}),
    (ServeConfig, {"ensemble": "/else/e", "weights": ("/else/w",)}),
]
"""Every job with each of its inputs somewhere else than its output."""

NO_LOCATIONS = {
    *("allow_uri", "allowed_hosts", "backbone", "base_uri", "exclude", "group_pattern", "host", "include"),
    *("max_upload", "member_backbones", "mlflow", "mlflow_experiment", "retry_quarantined", "root", "split"),
    *("columns", "only", "table"),
}
"""Fields that hold text but name no file or directory that a job reads or writes."""

NO_SAVED_FEATURES = {"features", "progressive"}
"""Fields with which --save-features is refused."""


def outputs_of(job: type) -> set[str]:
    """Fields that name an output. The output of `export` is of another kind for each target."""
    return {"output"} if job is ExportConfig else set(preflight.OUTPUTS.get(job, {}))


def with_input(values: dict[str, Any], field: str, location: str) -> dict[str, Any]:
    return {**values, field: (location,) if isinstance(values[field], tuple) else location}


EACH_INPUT = [
    (job, values, field) for job, values in ELSEWHERE for field in preflight.INPUTS if str(values.get(field)) != "None"
]
EACH_OUTPUT = [
    (job, values, field)
    for job, values in ELSEWHERE
    for field in preflight.OUTPUTS.get(job, {})
    if not (field == "save_features" and values.keys() & NO_SAVED_FEATURES)
]


def test_every_field_that_names_a_location_is_checked() -> None:
    fields_of_jobs: dict[type, set[str]] = {}
    for job in {job for job, _ in ELSEWHERE}:
        kinds = typing.get_type_hints(job)
        texts = {field.name for field in fields(job) if kinds[field.name] in (str, str | None, tuple[str, ...])}
        fields_of_jobs[job] = texts - NO_LOCATIONS - outputs_of(job)
    checked: dict[type, set[str]] = {job: set() for job in fields_of_jobs}
    for job, _, field in EACH_INPUT:
        checked[job].add(field)
    assert checked == fields_of_jobs


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("location", "words"), [("out", "is"), ("out/x", "holds"), (".", "lies in")])
def test_no_output_is_holds_or_lies_in_any_input(tmp_path: Path, location: str, words: str, overwrite: bool) -> None:
    num_checked = 0
    for job, values, field in EACH_INPUT:
        for output, kind in preflight.OUTPUTS.get(job, {}).items():
            if isinstance(kind, FileKind) or (output == "save_features" and values.keys() & NO_SAVED_FEATURES):
                continue
            flags: dict[str, Any] = {"overwrite": overwrite} if hasattr(job, "overwrite") else {}
            place = {"output": "/else/o", output: f"{tmp_path}/out"}
            config = job(**with_input(values, field, str(tmp_path / location)), **place, **flags)
            with pytest.raises(ConfigError) as error:
                preflight.check_outputs(config)
            assert str(error.value) == (
                f"{preflight.flag(output)} {tmp_path}/out: {words} {preflight.flag(field)} {tmp_path / location}; "
                "choose a directory apart from it"
            )
            num_checked += 1
    assert num_checked == 37


def test_no_file_is_written_over_an_input(tmp_path: Path) -> None:
    num_checked = 0
    for job, values, field in EACH_INPUT:
        for output, kind in preflight.OUTPUTS.get(job, {}).items():
            # The manifest that a new one continues may be replaced.
            if isinstance(kind, FileKind) and field != "continue_from":
                file = f"{tmp_path}/file{FILE_ENDING[job]}"
                write(Path(file))
                with pytest.raises(ConfigError) as error:
                    preflight.check_outputs(job(**with_input(values, field, file), **{output: file}))
                flag = preflight.flag(field)
                assert str(error.value) == (
                    f"{preflight.flag(output)} {file}: is also the file of {flag}; choose another name"
                )
                num_checked += 1
    assert num_checked == 8


@pytest.mark.parametrize(("job", "values", "field"), EACH_OUTPUT)
def test_every_job_refuses_an_output_that_cannot_be_written(
    tmp_path: Path, job: type, values: dict[str, Any], field: str
) -> None:
    write(tmp_path / "file")
    is_file, ending = isinstance(preflight.OUTPUTS[job][field], FileKind), FILE_ENDING.get(job, "")
    (tmp_path / f"directory{ending}").mkdir()
    flags: dict[str, Any] = {"dry_run": True} if hasattr(job, "dry_run") else {}
    flags |= {"output": f"{tmp_path}/o"} if field == "save_features" else {}

    def refused(output: str) -> str:
        with pytest.raises(ConfigError) as error:
            preflight.check(job(**{**values, **flags, field: output}))
        return str(error.value).removeprefix(f"{preflight.flag(field)} {output}: ")

    below = f"is below {tmp_path}/file, which is not a directory; choose another place"
    assert refused(f"{tmp_path}/file/x/y{ending}") == below
    assert refused(f"/proc/no{ending}").startswith("cannot be written (")
    if is_file:
        assert refused(f"{tmp_path}/directory{ending}") == "must be a file, is a directory; choose another name"
    else:
        assert refused(f"{tmp_path}/file") == "must be a directory, is a file; choose another name"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"directory{ending}", "file"]


@pytest.mark.parametrize(("job", "values", "field"), EACH_INPUT)
def test_every_job_refuses_an_input_of_the_wrong_sort_or_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: type, values: dict[str, Any], field: str
) -> None:
    write(tmp_path / "file")
    (tmp_path / "directory").mkdir()

    def refused(location: Path) -> str:
        new = f"{tmp_path}/new{FILE_ENDING.get(job, '')}"
        output = {name: new for name in outputs_of(job) if name != "save_features"}
        with pytest.raises(ConfigError) as error:
            preflight.check(job(**with_input(values, field, str(location)), **output))
        return str(error.value).removeprefix(f"{preflight.flag(field)} {location}: ")

    expected = preflight.INPUTS[field]
    if expected == preflight.FILE:
        assert refused(tmp_path / "directory") == "must be a file, is a directory"
    elif expected == preflight.DIRECTORY:
        assert refused(tmp_path / "file") == "must be a directory, is a file"

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(preflight.os, "open", denied)
    monkeypatch.setattr(preflight.os, "scandir", denied)
    if expected != preflight.DIRECTORY:
        assert refused(tmp_path / "file") == "cannot be read (Permission denied)"
    if expected != preflight.FILE:
        assert refused(tmp_path / "directory") == "cannot be read (Permission denied)"


def _called(config: Any) -> Callable[[], object]:
    """A call of the library's function for a job, with placeholders for arguments that it never reaches."""
    if isinstance(config, ExtractConfig):
        from vidclf.pipeline.extract import extract

        return lambda: extract(config, manifest(Path("/a")))
    if isinstance(config, ClassifyConfig):
        from vidclf.classification.classify import classification

        return lambda: classification(config)
    if isinstance(config, TrainConfig):
        from vidclf.training.train import train

        return lambda: train(config, [], [])
    if isinstance(config, TuneConfig):
        from vidclf.tuning.tune import tune

        return lambda: tune(config, {"/f": cast(FeatureSet, None)}, {"/f": "random"})
    if isinstance(config, EvaluateConfig):
        from vidclf.reports.evaluate import evaluate

        return lambda: evaluate(config)
    if isinstance(config, DiffConfig):
        from vidclf.reports.diff import diff

        return lambda: diff(config)
    if isinstance(config, QuantizeConfig):
        from vidclf.backbones.int8_calibration import quantize

        return lambda: quantize(config, manifest(Path("/a")))
    from vidclf.planning.plan import plan

    return lambda: plan(config, manifest(Path("/a")))


def test_the_librarys_functions_refuse_a_strangers_files_first(tmp_path: Path) -> None:
    write(tmp_path / "photos/index.html", "mine")
    write(tmp_path / "photos/x.safetensors", "mine")
    output: dict[str, Any] = {"output": f"{tmp_path}/photos"}
    forced = {**output, "overwrite": True}
    configs = [
        ExtractConfig(manifest="m", **forced),
        ClassifyConfig(input="i", ensemble="e", **forced),
        TrainConfig(features=("f",), **forced),
        TuneConfig(features=("f",), space="s", **forced),
        EvaluateConfig(features=("f",), ensemble="e", **output),
        DiffConfig(before="b", after="a", **output),
        QuantizeConfig(input="i", backbone="resnet50", output=f"{tmp_path}/photos/x.safetensors", overwrite=True),
        PlanConfig(input="i", write=f"{tmp_path}/photos/index.html"),
    ]
    for config in configs:
        with pytest.raises(ConfigError, match=r"must be empty or|exists and is not"):
            _called(config)()
    assert (tmp_path / "photos/index.html").read_text() == "mine"
    assert (tmp_path / "photos/x.safetensors").read_text() == "mine"


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_a_cluster_that_does_not_answer_is_named_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_address, "PAUSE_S", 0.0)
    port = closed_port()
    with pytest.raises(ConfigError) as error:
        ray_address.check_ray({"RAY_ADDRESS": f"127.0.0.1:{port}"})
    assert str(error.value) == (
        f"Ray address 127.0.0.1:{port}, from the variable RAY_ADDRESS: no cluster answers (Connection refused); start "
        "that cluster, name a running one, or unset RAY_ADDRESS to use this machine alone"
    )
    write(tmp_path / "ray/ray_current_cluster", f"127.0.0.1:{port}\n")
    with pytest.raises(ConfigError) as error:
        ray_address.check_ray({"RAY_TMPDIR": str(tmp_path)})
    assert f"from the file {tmp_path}/ray/ray_current_cluster, which `ray start` wrote: no cluster" in str(error.value)
    with pytest.raises(ConfigError, match="must be host:port"):
        ray_address.check_ray({"RAY_ADDRESS": "nonsense"})
    assert ray_address.NUM_TRIES * ray_address.CONNECT_TIMEOUT_S + 1 <= 15
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray_address.check_ray({"RAY_ADDRESS": f"127.0.0.1:{server.getsockname()[1]}"})
        ray_address.check_ray({"RAY_ADDRESS": f"ray://127.0.0.1:{server.getsockname()[1]}"})


def test_a_temporary_directory_too_long_for_sockets_is_refused() -> None:
    ray_address.check_ray({"RAY_TMPDIR": "/short"})
    with pytest.raises(ConfigError) as error:
        ray_address.check_ray({"TMPDIR": f"/{'x' * 60}"})
    assert str(error.value).startswith(f"temporary directory /{'x' * 60}: is ")
    assert str(error.value).endswith("set RAY_TMPDIR to a shorter one, such as /tmp")


def test_a_full_disk_ends_a_run_in_one_line_with_what_is_left(tmp_path: Path) -> None:
    from vidclf.pipeline.driver import embed_videos

    def pipeline(*_: object) -> Any:
        raise RuntimeError("many lines\nOSError: [Errno 28] No space left on device")

    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    with pytest.raises(RunStopped) as stopped:
        embed_videos(config, manifest(Path("/a"), Path("/b")), empty_job(), pipeline)
    assert str(stopped.value) == (
        f"the disk is full (OSError: [Errno 28] No space left on device); free some space; {tmp_path}/run: 0 ok, "
        "0 quarantined, 2 left of 2 videos; submit the same job again to continue"
    )


def test_ctrl_c_ends_a_run_with_what_is_left(tmp_path: Path) -> None:
    from vidclf.pipeline.driver import embed_videos

    def pipeline(*_: object) -> Any:
        raise KeyboardInterrupt

    config = ExtractConfig(manifest="m", output=str(tmp_path / "run"))
    with pytest.raises(RunStopped) as stopped:
        embed_videos(config, manifest(Path("/a"), Path("/b")), empty_job(), pipeline)
    assert str(stopped.value) == (
        f"stopped by Ctrl-C; {tmp_path}/run: 0 ok, 0 quarantined, 2 left of 2 videos; submit the same job again to "
        "continue"
    )


def test_a_full_disk_of_any_job_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(config: DiffConfig) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    argv = ["jobs/diff.py", "--before", "b", "--after", "a", "--output", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        cli.run(DiffConfig, job)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "diff.py: the disk is full ([Errno 28] No space left on device: 'x'); finished work is kept: free some space "
        "and submit the same job again\n"
    )


def test_ctrl_c_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(config: DiffConfig) -> int:
        raise KeyboardInterrupt

    argv = ["jobs/diff.py", "--before", "b", "--after", "a", "--output", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        cli.run(DiffConfig, job)
    assert (stop.value.code, capsys.readouterr().err) == (
        1,
        "diff.py: stopped by Ctrl-C; finished work is kept: submit the same job again\n",
    )
