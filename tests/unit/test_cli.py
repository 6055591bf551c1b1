"""Flags, YAML keys, `--help` and exit codes, derived from one dataclass."""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml

from vidclf import cli
from vidclf import config as configs
from vidclf.config.fields import above, at_least
from vidclf.config.options import Options
from vidclf.errors import ConfigError

CONFIGS = [kind for name, kind in vars(configs).items() if name.endswith("Config") and name[0].isupper()]


@dataclass(frozen=True, kw_only=True)
class Toy(Options):
    """A toy job."""

    name: str
    """its name"""
    size: int = 3
    """its size, in metres"""
    share: float | None = None
    """its share"""
    dims: tuple[int, ...] = (1, 2)
    """its
    dimensions"""
    fast: bool = False
    """whether it is fast"""


def test_defaults_yaml_and_flags_in_rising_order(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: yaml\nsize: 4\ndims: [5, 6]\nfast: true\n")
    assert cli.parse(Toy, ["--name", "flag"]) == Toy(name="flag")
    config = cli.parse(Toy, ["--config", str(tmp_path / "job.yaml"), "--size", "7", "--no-fast"])
    assert config == Toy(name="yaml", size=7, dims=(5, 6), fast=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--share", "0.5"], Toy(name="x", share=0.5)),
        (["--share", "none"], Toy(name="x", share=None)),
        (["--dims", "8"], Toy(name="x", dims=(8,))),
        (["--dims", "8,9"], Toy(name="x", dims=(8, 9))),
        (["--fast"], Toy(name="x", fast=True)),
    ],
)
def test_flags_take_the_fields_type(arguments: list[str], expected: Toy) -> None:
    assert cli.parse(Toy, ["--name", "x", *arguments]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--name must be given (as a flag or in --config); see --help"),
        (["--name", "x", "--size", "big"], "--size must be a whole number, got 'big'"),
        (["--name", "x", "--size", "1.5"], "--size must be a whole number, got '1.5'"),
        (["--name", "x", "--share", "half"], "--share must be a number, got 'half'"),
        (["--name", "x", "--siez", "1"], "unrecognized arguments: --siez 1; see --help"),
        (["--name"], "argument --name: expected one argument; see --help"),
    ],
)
def test_wrong_flags_are_said_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        cli.parse(Toy, arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("siez: 1", "unknown key 'siez'; did you mean 'size'?"),
        ("colour: red", "unknown key 'colour'; known keys: name, size, share, dims, fast"),
        ("- a\n- b", "must hold `key: value` lines, holds list"),
        ("a: [", "not YAML"),
        ("name: x\nsize: true", "--size must be a whole number, got True"),
    ],
)
def test_wrong_yaml_names_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        cli.parse(Toy, ["--config", str(tmp_path / "job.yaml")])
    assert message in str(error.value)


def test_help_shows_units_and_defaults(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.parse(Toy, ["--help"])
    shown = capsys.readouterr().out
    for line in (
        "its name (required)",
        "its size, in metres (default: 3)",
        "its dimensions (default: 1,2)",
        "whether it is fast (default: no)",
    ):
        assert line in shown


@dataclass(frozen=True, kw_only=True)
class Speed(Options):
    """Speed of the toy."""

    speed: Annotated[float, above(0, "m/s")] | None = None
    """Its speed. (default: as fast as it can)"""


@dataclass(frozen=True, kw_only=True)
class RacingToy(Speed):
    """A toy in a race."""

    laps: Annotated[int, at_least(1, "lap")] = 2
    """Number of laps."""
    lane: Literal["left", "middle", "right"] = "left"
    """Lane of the toy."""


def test_help_shows_ranges_choices_and_the_headings_of_mix_ins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.parse(RacingToy, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--laps INT Number of laps. (default: 2; at least 1 lap)" in shown
    assert "--lane {left,middle,right} Lane of the toy. (default: left)" in shown
    assert "Speed of the toy: --speed FLOAT Its speed. (default: as fast as it can; above 0 m/s)" in shown


def test_flags_out_of_their_range_or_choices_are_refused() -> None:
    assert cli.parse(RacingToy, ["--speed", "none"]).speed is None
    with pytest.raises(ConfigError, match=r"^--laps must be at least 1 lap, got 0$"):
        cli.parse(RacingToy, ["--laps", "0"])
    with pytest.raises(ConfigError, match=r"^--lane must be one of left, middle, right, got 'up'$"):
        cli.parse(RacingToy, ["--lane", "up"])


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_help_text_has_one_default_at_its_end(config_class: type) -> None:
    docs = cli.field_docs(config_class)
    for field in fields(config_class):
        text = cli.help_text(docs[field.name], field.default)
        assert text.count("(default") + text.count("(required)") == 1, text
        assert text.endswith(")"), text
        assert field.default not in (None, ()) or "(default" in docs[field.name], f"{field.name}: what does none mean?"
        assert field.default is not MISSING or "(default" not in docs[field.name], text


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_field_of_every_job_has_its_help(config_class: type) -> None:
    docs = cli.field_docs(config_class)
    assert [field.name for field in fields(config_class) if not docs.get(field.name)] == []


@pytest.mark.parametrize(("code", "job"), [(0, lambda _: 0), (1, lambda _: 1)])
def test_the_jobs_code_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, code: int, job: object) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/toy.py", "--name", "x"])
    with pytest.raises(SystemExit) as stop:
        cli.run(Toy, job)  # type: ignore[arg-type]
    assert stop.value.code == code


def test_a_usage_error_is_one_line_and_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(config: Toy) -> int:
        raise ConfigError(f"--name must not be {config.name}")

    monkeypatch.setattr(sys, "argv", ["jobs/toy.py", "--name", "x"])
    with pytest.raises(SystemExit) as stop:
        cli.run(Toy, job)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "toy.py: error: --name must not be x\n"


def test_the_written_configuration_gives_the_same_job_again(tmp_path: Path) -> None:
    config = Toy(name="über", size=9, dims=(4,))
    cli.write_run_config(config, str(tmp_path))
    written = tmp_path / "run_config.yaml"
    assert yaml.safe_load(written.read_text())["dims"] == [4]
    assert cli.parse(Toy, ["--config", str(written)]) == config
