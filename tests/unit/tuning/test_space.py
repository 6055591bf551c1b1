"""Domains from YAML and configurations from points, with literal answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune as ray_tune

from vidclf.config import FitConfig, TuneConfig
from vidclf.config.train import RECIPES
from vidclf.errors import ConfigError
from vidclf.tuning.ensemble_from_trials import has_sizes_of
from vidclf.tuning.ray_search import ray_domain, searcher, within
from vidclf.tuning.space import Domain, parse_space, read_space, searched
from vidclf.tuning.study import Study

ROOT = Path(__file__).resolve().parents[3]
HEADS = {"type": "choice", "categories": [2, 3, 4, 8]}


def space_of(**keys: Any) -> dict[str, Any]:
    return {"space": keys}


def test_each_type_is_the_function_of_ray_tune_that_it_names() -> None:
    space = parse_space(
        space_of(
            lr={"type": "loguniform", "lower": 1e-4, "upper": 1e-2},
            dropout={"type": "uniform", "lower": 0, "upper": 0.5},
            warmup_epochs={"type": "randint", "lower": 0, "upper": 9},
            batch_size={"type": "lograndint", "lower": 8, "upper": 65},
            num_frames={"type": "choice", "categories": [24, None]},
            multi_scale={"type": "choice", "categories": [[1.0], [0.85, 1.0, 1.15]]},
            epochs=40,
        )
    )
    assert space.fixed == {"epochs": 40}
    assert space.domains == {
        "lr": Domain(type="loguniform", arguments={"lower": 1e-4, "upper": 1e-2}),
        "dropout": Domain(type="uniform", arguments={"lower": 0.0, "upper": 0.5}),
        "warmup_epochs": Domain(type="randint", arguments={"lower": 0, "upper": 9}),
        "batch_size": Domain(type="lograndint", arguments={"lower": 8, "upper": 65}),
        "num_frames": Domain(type="choice", arguments={"categories": [24, None]}),
        "multi_scale": Domain(type="choice", arguments={"categories": ["1.0", "0.85,1.0,1.15"]}),
    }
    lr, batch = ray_domain(space.domains["lr"]), ray_domain(space.domains["batch_size"])
    assert (lr.domain_str, batch.domain_str) == ("(0.0001, 0.01)", "(8, 65)")
    assert isinstance(lr.sampler, type(ray_tune.loguniform(1, 2).sampler))
    assert isinstance(batch.sampler, type(ray_tune.lograndint(1, 2).sampler))
    assert ray_domain(space.domains["num_frames"]).categories == [24, None]


def test_a_point_becomes_a_configuration() -> None:
    space = parse_space(
        space_of(
            recipe="reference",
            epochs=7,
            lr={"type": "loguniform", "lower": 1e-4, "upper": 1e-2},
            multi_scale={"type": "choice", "categories": [[1.0], [0.5, 2.0]]},
        )
    )
    config = space.fit_config({"lr": 0.002, "multi_scale": "0.5,2.0"}, seed=5)
    expected = {**RECIPES["reference"], "recipe": "reference", "epochs": 7, "lr": 0.002, "multi_scale": (0.5, 2.0)}
    assert config == FitConfig(**expected, seed=5)
    assert searched(space) == ["lr", "multi_scale"]


@pytest.mark.parametrize(
    ("hidden_dim", "places", "heads"),
    [
        (6, (0.0, 0.2, 0.4, 0.99, 1.0), (2, 2, 3, 4, 4)),  # 8 does not divide 12
        (8, (0.0, 0.2, 0.4, 0.99, 1.0), (2, 2, 4, 8, 8)),  # 3 does not divide 16
        (5, (0.0, 0.5, 1.0), (2, 2, 2)),  # only 2 divides 10
    ],
)
def test_heads_are_a_place_among_those_that_divide(
    hidden_dim: int, places: tuple[float, ...], heads: tuple[int, ...]
) -> None:
    space = parse_space(
        space_of(hidden_dim={"type": "choice", "categories": [5, 6, 8]}, num_attention_heads=HEADS, epochs=1)
    )
    assert space.domains["num_attention_heads"] == Domain(type="uniform", arguments={"lower": 0.0, "upper": 1.0})
    drawn = [
        space.settings({"hidden_dim": hidden_dim, "num_attention_heads": place})["num_attention_heads"]
        for place in places
    ]
    assert tuple(drawn) == heads


def test_heads_that_never_divide_are_left_out_where_the_width_is_fixed() -> None:
    space = parse_space(space_of(hidden_dim=6, num_attention_heads=HEADS))
    assert space.domains["num_attention_heads"].values() == [2, 3, 4]


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_no_searcher_draws_an_invalid_combination(algorithm: str) -> None:
    space = parse_space(
        {
            "search": {"algorithm": algorithm, "startup_trials": 5},
            **space_of(hidden_dim={"type": "choice", "categories": [5, 6, 8]}, num_attention_heads=HEADS),
        }
    )
    config = TuneConfig(features=("f",), space="s", output="o", seed=1)
    search: Any = searcher(Study(config=config, space=space, locations={}))
    search.set_search_properties(
        "macro_f1", "max", {name: ray_domain(domain) for name, domain in space.domains.items()}
    )
    drawn = set()
    for number in range(60):
        # FitConfig refuses heads that do not divide.
        point = space.fit_config(search.suggest(str(number)), seed=0)
        drawn.add((point.hidden_dim, point.num_attention_heads))
        search.on_trial_complete(str(number), {"macro_f1": point.hidden_dim / 8, "training_iteration": 1})
    assert drawn <= {(5, 2), (6, 2), (6, 3), (6, 4), (8, 2), (8, 4), (8, 8)}
    assert len(drawn) >= 5


def test_the_kind_of_model_is_searched_and_ensembles_are_of_one_kind() -> None:
    kinds = {"type": "choice", "categories": ["bilstm", "attentive"]}
    space = parse_space({"search": {"algorithm": "grid"}, **space_of(model=kinds, hidden_dim=6, num_attention_heads=3)})
    bilstm, probe = (space.fit_config({"point": point}, seed=0) for point in space.grid())
    assert (bilstm.model, probe.model) == ("bilstm", "attentive")
    assert not has_sizes_of(bilstm, probe)
    # Layers that a probe does not have make no difference.
    assert has_sizes_of(probe, replace(probe, num_lstm_layers=1, dropout=0.1))
    with pytest.raises(ConfigError, match=r"space.model.categories: --model must be bilstm or attentive, got 'mlp'"):
        parse_space(space_of(model={"type": "choice", "categories": ["mlp"]}))


def test_a_grid_has_every_valid_combination_once() -> None:
    space = parse_space(
        {
            "search": {"algorithm": "grid"},
            **space_of(
                hidden_dim={"type": "choice", "categories": [6, 5]},
                num_attention_heads=HEADS,
                warmup_epochs={"type": "randint", "lower": 1, "upper": 3},
            ),
        }
    )
    configs = [space.fit_config({"point": point}, seed=0) for point in space.grid()]
    assert [(c.hidden_dim, c.warmup_epochs, c.num_attention_heads) for c in configs] == [
        *[(6, 1, 2), (6, 1, 3), (6, 1, 4), (6, 2, 2), (6, 2, 3), (6, 2, 4)],
        *[(5, 1, 2), (5, 2, 2)],
    ]


def test_what_population_based_training_moves_out_of_a_domain_is_brought_back() -> None:
    domains = {
        "dropout": Domain(type="uniform", arguments={"lower": 0.1, "upper": 0.5}),
        "batch_size": Domain(type="randint", arguments={"lower": 8, "upper": 17}),
        "multi_scale": Domain(type="choice", arguments={"categories": ["1.0"]}),
    }
    point = {"dropout": 0.6, "batch_size": 19, "multi_scale": "1.0", "lr": 3.0}
    assert within(domains, point) == {"dropout": 0.5, "batch_size": 16, "multi_scale": "1.0", "lr": 3.0}


LR = {"type": "loguniform", "lower": 1e-4, "upper": 1e-2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "must hold `space:` with at least one key, and may hold `search:`"),
        ({"space": {"lr": LR}, "sarch": {}}, "sarch: unknown key; did you mean 'search'?"),
        (space_of(dropuot=0.1), "space.dropuot: unknown key; did you mean 'dropout'?"),
        (space_of(seed=1), "space.seed: must be left out, because all trials have the same seed; give --seed"),
        (space_of(lr=0.1), "space: must have at least one domain to search, has fixed values only"),
        (space_of(lr=LR, epochs="many"), "space.epochs: --epochs must be a whole number, got 'many'"),
        (space_of(lr=LR, epochs=0), "space.epochs: --epochs must be at least 1, got 0"),
        (
            space_of(lr={"type": "normal", "lower": 0, "upper": 1}),
            "space.lr.type: must be one of uniform, loguniform, randint, lograndint, choice (functions of ray.tune), "
            "got 'normal'",
        ),
        (space_of(lr={**LR, "uper": 1}), "space.lr.uper: unknown key; did you mean 'upper'?"),
        (space_of(lr={"type": "uniform", "lower": 0.1}), "space.lr.upper: must be given with type uniform"),
        (space_of(lr={**LR, "upper": 1e-5}), "space.lr.upper: must be above lower 0.0001, got 1e-05"),
        (space_of(dropout={"type": "loguniform", "lower": 0, "upper": 0.5}), "space.dropout.lower: must be above 0"),
        (
            space_of(dropout={"type": "uniform", "lower": 0, "upper": 1}),
            "space.dropout.upper: --dropout must be in [0, 1), got 1.0",
        ),
        (
            space_of(epochs={"type": "uniform", "lower": 1, "upper": 2}),
            "space.epochs.type: must be randint, lograndint or choice for this key, got 'uniform'",
        ),
        (space_of(lr={"type": "choice", "categories": []}), "space.lr.categories: must be a list of at least one"),
        (
            space_of(lr={"type": "choice", "categories": [0.1, 0.1]}),
            "space.lr.categories: must name each value once, got [0.1, 0.1]",
        ),
        (
            space_of(hidden_dim={"type": "choice", "categories": [6, 7]}, num_attention_heads=4),
            "space.num_attention_heads: must include a divisor of 2 × hidden_dim = 14, got [4]; give a choice with "
            "a divisor for each hidden_dim, or leave out hidden_dim 7",
        ),
        (
            {"search": {"algorithm": "bayes"}, **space_of(lr=LR)},
            "search: --algorithm must be one of tpe, random, grid, pbt, got 'bayes'",
        ),
        (
            {"search": {"algorithm": "grid"}, **space_of(lr=LR)},
            "space.lr: must be a choice or whole numbers for search.algorithm grid, is a loguniform",
        ),
        (
            {"search": {"algorithm": "pbt"}, **space_of(lr=LR)},
            "search: --scheduler must be none with algorithm pbt, which itself stops and replaces trials, got 'asha'",
        ),
        (
            {
                "search": {"algorithm": "pbt", "scheduler": "none"},
                **space_of(hidden_dim={"type": "choice", "categories": [6, 12]}),
            },
            "space: must search one of lr, weight_decay, dropout",
        ),
    ],
)
def test_errors_name_key_rule_and_value(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_space(values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "--space must be a readable YAML file, got"),
        (lambda path: path.write_text("space: ["), "not YAML"),
        (lambda path: path.write_text("space: {lr: x}"), "s.yaml: space.lr: --lr must be a number, got 'x'"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "s.yaml")
    with pytest.raises(ConfigError) as error:
        read_space(str(tmp_path / "s.yaml"))
    assert message in str(error.value)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "tune_configs").glob("*.yaml")))
def test_the_spaces_that_come_along_can_be_read(name: str) -> None:
    space = read_space(str(ROOT / "tune_configs" / name))
    assert space.domains
    assert space.max_epochs >= space.search.grace_epochs
    assert math.isfinite(space.search.reduction_factor)


def test_a_name_means_the_space_that_comes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_space("smoke") == read_space(str(ROOT / "tune_configs" / "smoke.yaml"))
    with pytest.raises(ConfigError) as refused:
        read_space("smok")
    expected = "--space must be a readable YAML file or one of backbones, default, smoke, got 'smok' (no such file)"
    assert str(refused.value) == expected


def test_a_file_without_a_directory_comes_before_the_space_of_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").write_text("space: {lr: x}")
    with pytest.raises(ConfigError, match=r"--space smoke: space\.lr: --lr must be a number, got 'x'"):
        read_space("smoke")
