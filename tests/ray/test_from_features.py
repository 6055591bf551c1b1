"""Classification and evaluation of stored features, without decoding."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
import torch

from tests.support.ensembles import (
    EVEN_VIEWS,
    MEASURED,
    NEUTRAL_TRUST,
    even_discriminant,
    even_space,
    ood_line,
)
from tests.support.split_records import COSINE, recorded
from tests.support.split_records import table as split_table
from vidclf import arrow, schema, storage
from vidclf.classification import stored_features
from vidclf.classification.from_features import ClassifyFeatures
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import EvaluateConfig, ModelConfig
from vidclf.ensemble import calibration_file, files, split_record
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import EnsembleCalibration, EnsembleInfo, FittedBackbone, TrustInfo, read_info, write_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.split_record import SplitRecord, read_record
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.errors import ConfigError
from vidclf.features import hdf5
from vidclf.features.columns import features_column
from vidclf.features.lookup import FeatureLookup
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.job import BackboneSetup, RunSpec
from vidclf.pipeline.sink import written_columns
from vidclf.reports import evaluate as evaluate_module
from vidclf.reports.evaluate import Evaluation
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.video.sampling import SamplingPlan

CLASSES = ["A", "B"]
MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
SPEC = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=3))
RESNET = replace(SPEC, backbone="resnet50")
SPLITS = ["test", "train", "test", "test"]
LABELS = ["A", "A", "B", "B"]


def sequences(feature_dim: int = 1280) -> list[Any]:
    return [
        np.full((frames, feature_dim), value, np.float16) for frames, value in ((3, 0.5), (2, 0.1), (1, 0.9), (3, 0.0))
    ]


def train(directory: str, specs: list[FeatureSpec]) -> str:
    """A member of each backbone with random weights, and the history of the first one."""
    members = []
    for index, spec in enumerate(specs):
        torch.manual_seed(index)
        digest = files.write_member(directory, index, TemporalClassifier(spec.feature_dim, 2, MODEL).state_dict())
        members.append(MemberRecord(file=files.member_file(index), backbone=spec.backbone, digest=digest))
    epoch = {"number": 1, "lr": 0.1, "train_loss": 0.7, "val_loss": 0.6, "val_accuracy": 0.5, "val_macro_f1": 0.4}
    storage.publish_json(f"{directory}/member_0.json", {"member": {}, "history": [epoch]})
    fitted = [FittedBackbone.of(spec, "DEFAULT") for spec in {spec.key: spec for spec in specs}.values()]
    trust_B = np.linspace(0.5, 1, 20, dtype=np.float32)
    seen = ValidationScores(
        trust_B=trust_B, correct_B=trust_B > 0.6, ood_B=np.zeros(20, np.float32), source_B=np.arange(20)
    )
    data = TrustData(
        spaces={Look.FULL: [even_space(2, one.feature_dim) for one in fitted]},
        discriminants=[even_discriminant(2, one.feature_dim) for one in fitted],
        full=dict.fromkeys(("plain", "tta"), seen),
    )
    ood = ood_line(*[1e6] * len(fitted))
    digest = calibration_file.write_trust(directory, data)
    info = EnsembleInfo(
        classes=CLASSES,
        backbones=fitted,
        model=MODEL,
        members=members,
        training={},
        versions={},
        views=EVEN_VIEWS,
        calibration=EnsembleCalibration.of(20, MEASURED, MEASURED),
        trust=TrustInfo(digest=digest, ood=ood, plain=NEUTRAL_TRUST, tta=NEUTRAL_TRUST),
    )
    write_info(directory, info)
    return directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two members of one backbone."""
    return train(str(tmp_path_factory.mktemp("ensemble")), [SPEC, SPEC])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished features directory."""
    return extract(str(tmp_path_factory.mktemp("features")), SPEC, [0, 1, 2, 3])


def extract(directory: str, spec: FeatureSpec, order: list[int], content: str = "xxh3:0") -> str:
    """Write a finished features directory of two shards that hold the videos in this order."""
    num_frames = [len(rows_TD) for rows_TD in sequences()]
    manifest_columns: dict[str, Any] = {
        "video_id": [f"id{i}" for i in range(4)],
        "video_uri": [f"/none/{i}.mp4" for i in range(4)],
        "label": LABELS,
        "sublabel": ["s"] * 4,
        "group": [f"g{i}" for i in range(4)],
        "split": SPLITS,
    }
    facts: dict[str, Any] = {
        "size_bytes": [1] * 4,
        "modified": [None] * 4,
        "content_digest": [f"{content}{i}" for i in range(4)],
        "num_frames": num_frames,
        "duration_s": [9.0] * 4,
        "width": [640] * 4,
        "height": [360] * 4,
        "sample_aspect_ratio": [None] * 4,
        "framerate": [30.0] * 4,
        "video_codec": ["h264"] * 4,
        "time_jumps": [0] * 4,
        "missing_s": [0.0] * 4,
        "pts_s": [[0.5 * i for i in range(n)] for n in num_frames],
        "is_black": [[False] * n for n in num_frames],
        "all_black": [False] * 4,
        "luma_mean": [[0.5] * n for n in num_frames],
        "sharpness": [[1.0] * n for n in num_frames],
        "is_near_duplicate": [[False] * n for n in num_frames],
        "is_blurry": [False] * 4,
        "features": features_column(sequences(spec.feature_dim), spec.feature_dim),
        "feature_key": [spec.key] * 4,
    }
    columns = schema.features(spec.feature_dim)
    values = manifest_columns | facts
    arrays = [
        values[f.name] if isinstance(values[f.name], pa.Array) else pa.array(values[f.name], f.type) for f in columns
    ]
    table = pa.table(arrays, schema=columns).take(order)
    storage.publish_table(f"{directory}/part-0.parquet", table.slice(0, 2))
    storage.publish_table(f"{directory}/part-1.parquet", table.slice(2))
    storage.publish_json(f"{directory}/run_identity.json", {"feature_specs": [asdict(spec)], "weights": ["DEFAULT"]})
    manifest = pa.table({**manifest_columns, "size_bytes": [None] * 4}, schema=schema.MANIFEST)
    storage.publish_table(Run(directory).manifest_file, manifest)
    return directory


def hdf5_file(path: Path, classes: list[str]) -> str:
    """Write the test split as a file of the reference system, which numbers the classes in the order of `classes`."""
    rows = [rows_TD for rows_TD, split in zip(sequences(), SPLITS, strict=True) if split == "test"]
    labels = [label for label, split in zip(LABELS, SPLITS, strict=True) if split == "test"]
    padded_NTD = np.zeros((len(rows), 3, 1280), np.float32)
    for index, rows_TD in enumerate(rows):
        padded_NTD[index, : len(rows_TD)] = rows_TD
    with h5py.File(path, "w") as file:
        file["features"] = padded_NTD
        file["labels"] = np.array([classes.index(label) for label in labels], np.int64)
        file["num_frames"] = np.array([len(rows_TD) for rows_TD in rows], np.int32)
        file.attrs["category_mapping"] = str({name: i for i, name in enumerate(classes)}).replace("'", '"')
    return str(path)


def evaluate(
    features: str | tuple[str, ...], trained: str, output: Path, **options: Any
) -> tuple[Evaluation, pa.Table]:
    locations = (features,) if isinstance(features, str) else features
    config = EvaluateConfig(features=locations, ensemble=trained, output=str(output), **options)
    result = evaluate_module.evaluate(config)
    assert result is not None
    return result, pq.read_table(output / "predictions.parquet")


def test_a_features_directory_is_classified_and_scored(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path)
    assert rows["video_id"].to_pylist() == ["id0", "id2", "id3"]
    arrow.conform(rows, schema.predictions(2), "what a job would have written")
    expected_BC = files.load(trained, torch.device("cpu"))([[sequences()[i] for i in (0, 2, 3)]]).probabilities_BC
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), expected_BC, atol=1e-6)
    assert result.per_split["test"].num_videos == 3
    assert [len(history) for history in result.training] == [1, 0]
    assert result.calibration["ece_before"] == 0.2
    page = (tmp_path / "index.html").read_text()
    assert "member 0, 1 epochs" in page
    assert "No test-time views were used" in page


def test_features_of_an_earlier_version_lack_columns_that_are_null_then(run: str, trained: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    for path in old.glob("part-*.parquet"):
        table = pq.read_table(path).drop_columns(["sample_aspect_ratio", "time_jumps", "missing_s"])
        pq.write_table(table, path)
    _, before = evaluate(run, trained, tmp_path / "new")
    result, rows = evaluate(str(old), trained, tmp_path / "report")
    assert result.per_split["test"].num_videos == 3
    assert rows["probabilities"].to_pylist() == before["probabilities"].to_pylist()
    assert (rows["time_jumps"].to_pylist(), rows["missing_s"].to_pylist()) == ([None] * 3, [None] * 3)
    # As a job classifies them, in whose results the columns are null, too.
    columns = schema.features(1280)
    stored = pa.concat_tables(pq.read_table(path) for path in Run(str(old)).shards())
    assert arrow.conform(arrow.completed(stored, columns), columns, "features").num_rows == 4
    assert arrow.conform(rows, schema.predictions(2), "predictions").num_rows == 3


def test_views_vote_with_tta(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path, tta=True)
    assert [len(row) for row in rows["view_probabilities"].to_pylist()] == [4, 4, 4]
    names = ["original", "reverse", "faster", "slower", "all, weighted"]
    assert [voter.name for voter in result.detail.views] == names
    assert result.view_weights == dict.fromkeys(names[:4], 0.25)


def test_all_splits_are_scored_apart(run: str, trained: str, tmp_path: Path) -> None:
    result, rows = evaluate(run, trained, tmp_path, split="all")
    assert {split: scores.num_videos for split, scores in result.per_split.items()} == {"train": 1, "test": 3}
    assert rows.num_rows == 4


def test_hdf5_gives_the_same_probabilities_and_no_facts_that_it_does_not_hold(
    run: str, trained: str, tmp_path: Path
) -> None:
    of_run, run_rows = evaluate(run, trained, tmp_path / "run")
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["B", "A"])
    of_file, rows = evaluate(file, trained, tmp_path / "file")
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), run_rows["probabilities"].to_pylist(), atol=1e-6)
    assert of_file.per_split["test"].confusion == of_run.per_split["test"].confusion
    assert rows["video_uri"].to_pylist() == [f"{file}#{index}" for index in range(3)]
    assert rows["num_frames"].to_pylist() == [3, 1, 3]
    assert rows["video_codec"].to_pylist() == rows["pts_s"].to_pylist() == [None] * 3
    assert of_file.summary is None
    assert [share.name for share in of_file.detail.by["codec"]] == ["unknown"]
    page = (tmp_path / "file/index.html").read_text()
    assert "HDF5 files do not record which videos could not be read" in page


def test_credentials_of_an_hdf5_file_stay_out_of_its_predictions(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["B", "A"])
    location = "s3://KEY:SECRET@bucket/test_features_multiscale.h5"
    content, info, record = hdf5.read(file), read_info(trained), SplitRecord.unknown("no record")
    monkeypatch.setattr(stored_features.hdf5, "read", lambda _: content)
    monkeypatch.setattr(stored_features.hdf5, "is_stale", lambda _: False)
    monkeypatch.setattr(stored_features.storage, "exists", lambda _: True)
    opened = stored_features.open_features((location,), "test", info, record)
    shown = [f"s3://***@bucket/test_features_multiscale.h5#{row}" for row in range(3)]
    assert opened.manifest["video_uri"].to_pylist() == opened.manifest["group"].to_pylist() == shown


def with_record(directory: Path) -> str:
    """An ensemble that was trained on video id0 of the features; its mean of all videos is 0."""
    ensemble = train(str(directory), [SPEC, SPEC])
    rows = [
        recorded("id0", "train", content_digest="xxh3:00", mean_features=[0.5] * 1280),
        recorded("x", "test", mean_features=[-0.5] * 1280),
    ]
    split_record.write(ensemble, split_table(*rows))
    write_info(ensemble, replace(read_info(ensemble), splits=split_record.describe(ensemble, COSINE)))
    return ensemble


def test_the_ensembles_record_decides_which_features_are_test(run: str, tmp_path: Path) -> None:
    ensemble = with_record(tmp_path / "ensemble")
    result, rows = evaluate(run, ensemble, tmp_path / "report")
    # The features have id0, id2 and id3 in test. Those of id2 point where those of id0 do; id3 is the mean of all.
    assert rows["video_id"].to_pylist() == ["id3"]
    assert result.is_held_out
    facts = result.split_facts
    assert (facts.num_moved, facts.num_no_test, facts.num_unsearched) == (2, 2, 0)
    assert facts.reasons == {"recorded": 1, "near_duplicate": 1}
    of_all, _ = evaluate(run, ensemble, tmp_path / "all", split="all")
    assert {split: scores.num_videos for split, scores in of_all.per_split.items()} == {"train": 3, "test": 1}
    with pytest.raises(ConfigError) as error:
        evaluate(run, ensemble, tmp_path / "val", split="val")
    assert "is in it; its splits are test 1, train 3; 2 videos have another split" in str(error.value)


def test_a_file_without_names_is_compared_by_its_features_and_not_called_held_out(tmp_path: Path) -> None:
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["A", "B"])
    result, _ = evaluate(file, with_record(tmp_path / "ensemble"), tmp_path / "report")
    assert {split: scores.num_videos for split, scores in result.per_split.items()} == {"train": 2, "test": 1}
    assert not result.is_held_out
    assert result.split_facts.doubt.startswith("neither the names nor the contents of the test videos are known")


def test_what_does_not_fit_is_refused(run: str, trained: str, tmp_path: Path) -> None:
    def refused(features: str, **options: Any) -> str:
        with pytest.raises(ConfigError) as error:
            evaluate(features, trained, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
        return str(error.value)

    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["A", "B"])
    assert refused(file, split="val").startswith("--split must be test, as in the name of")
    assert refused(file, split="all").startswith("--split must be one of train, val, test for the file")
    assert "is in it; its splits are test 3, train 1" in refused(run, split="val")
    assert "no such file" in refused(str(tmp_path / "none.h5"))
    other = tmp_path / "other"
    storage.publish_json(f"{other}/run_identity.json", {"feature_specs": [asdict(replace(SPEC, weights_digest="x"))]})
    assert "weights_digest: digest != x" in refused(str(other))


def test_a_dry_run_classifies_nothing(
    run: str, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(features=(run,), ensemble=trained, output=str(tmp_path / "out"), dry_run=True)
    assert evaluate_module.evaluate(config) is None
    assert capsys.readouterr().out == f"would classify and score 3 videos into {tmp_path}/out\n"
    assert not (tmp_path / "out").exists()


def test_members_of_two_backbones_see_their_own_features_of_the_same_videos(run: str, tmp_path: Path) -> None:
    both = train(str(tmp_path / "ensemble"), [SPEC, RESNET, SPEC])
    # In other shards and another order, and named in another order than the ensemble's.
    wide = extract(str(tmp_path / "resnet50"), RESNET, [3, 1, 0, 2])
    result, rows = evaluate((wide, run), both, tmp_path / "report")
    assert rows["video_id"].to_pylist() == ["id0", "id2", "id3"]
    loaded = files.load(both, torch.device("cpu"))
    expected = loaded([[sequences(dim)[i] for i in (0, 2, 3)] for dim in (1280, 2048)])
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), expected.probabilities_BC, atol=1e-6)
    np.testing.assert_allclose(
        np.array(rows["member_probabilities"].to_pylist()).transpose(1, 0, 2),
        expected.member_probabilities_MBC,
        atol=1e-6,
    )
    names = ["member 0, efficientnet_lite0", "member 1, resnet50", "member 2, efficientnet_lite0"]
    assert [voter.name for voter in result.detail.members] == names
    assert result.provenance["feature key"] == f"{SPEC.key}, {RESNET.key}"
    assert result.provenance["backbone"] == "efficientnet_lite0, weights digest; resnet50, weights digest"


def test_features_of_two_backbones_that_do_not_fit_are_refused(run: str, trained: str, tmp_path: Path) -> None:
    both = train(str(tmp_path / "ensemble"), [SPEC, RESNET])
    wide = extract(str(tmp_path / "resnet50"), RESNET, [0, 1, 2, 3], content="xxh3:1")

    def refused(features: tuple[str, ...], ensemble_: str) -> str:
        with pytest.raises(ConfigError) as error:
            evaluate(features, ensemble_, tmp_path / "out")
        return str(error.value)

    needs = "must name one directory per backbone of the ensemble"
    assert f"{needs} (efficientnet_lite0, resnet50), got features of efficientnet_lite0" in refused((run,), both)
    assert f"{needs} (efficientnet_lite0), got features of efficientnet_lite0, resnet50" in refused(
        (run, wide), trained
    )
    assert f"{wide}: content_digest must equal that of {run}, differs for 4 videos" in refused((run, wide), both)
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["A", "B"])
    assert "an HDF5 file must be given alone, for an ensemble of one backbone" in refused((file,), both)


@pytest.mark.usefixtures("ray_session")
def test_a_job_over_two_runs_of_features_classifies_the_same(run: str, tmp_path: Path) -> None:
    both = train(str(tmp_path / "ensemble"), [SPEC, RESNET])
    wide = extract(str(tmp_path / "resnet50"), RESNET, [3, 1, 0, 2])
    settings = HeadSettings(tta=False, trust_threshold=0.0, segments_s=None)
    target = RunSpec(
        embeddings=tuple(BackboneSetup(spec=spec, weights="DEFAULT", state={}) for spec in (SPEC, RESNET)),
        output_schema=schema.predictions(2),
        make_head=partial(EnsembleHead, both, settings, precision="fp32"),
        classes=tuple(CLASSES),
    )
    others = [FeatureLookup(Run(wide).shards())]
    tally = SimpleNamespace(add=SimpleNamespace(remote=lambda counts: None))
    references = [[ray.put(value)] for value in (others, NewestManifest(run), pa.array(["id0", "id2"]))]
    stage = ClassifyFeatures(target, 0, *references, tally)
    batch = pa.concat_tables(pq.read_table(path) for path in Run(run).shards())
    rows = pa.Table.from_struct_array(stage(batch)["target_0"])
    assert rows["video_id"].to_pylist() == ["id0", "id2"]
    loaded = files.load(both, torch.device("cpu"))
    expected = loaded([[sequences(dim)[i] for i in (0, 2)] for dim in (1280, 2048)])
    np.testing.assert_allclose(rows["probabilities"].to_pylist(), expected.probabilities_BC, atol=1e-6)
    np.testing.assert_allclose(rows["ood_score"].to_pylist(), expected.ood_score_B, rtol=1e-6)


class UsedHead:
    """A head that returns the first feature of each video, and remembers the videos that it got."""

    def __init__(self) -> None:
        self.video_ids: list[list[str]] = []

    def __call__(self, embedded_S: list[pa.Table]) -> pa.Table:
        self.video_ids.append(embedded_S[0]["video_id"].to_pylist())
        assert {table.num_rows for table in embedded_S} == {len(self.video_ids[-1])}
        return pa.table({"first": pa.array([float(row[0][0].as_py()) for row in embedded_S[0]["features"]])})


def features_stage(spoilt_S: list[set[str]], counts: dict[str, Any]) -> tuple[ClassifyFeatures, UsedHead, pa.Table]:
    """A worker of two backbones, its head and a batch of the four videos.

    The features of the backbone S of the videos in `spoilt_S[S]` are not finite.
    """
    ids = [f"id{i}" for i in range(4)]
    tables = []
    for spec, spoilt in zip((SPEC, RESNET), spoilt_S, strict=True):
        rows = sequences(spec.feature_dim)
        for index, video_id in enumerate(ids):
            if video_id in spoilt:
                rows[index][-1, 3] = np.inf
        columns = {field.name: pa.nulls(4, field.type) for field in schema.features(spec.feature_dim)}
        columns |= {name: pa.array(ids) for name in ("video_id", "video_uri", "group")}
        tables.append(pa.table({**columns, "features": features_column(rows, spec.feature_dim)}))
    stage, head = ClassifyFeatures.__new__(ClassifyFeatures), UsedHead()
    row_schema = pa.schema([("first", pa.float64())])
    stage._target = SimpleNamespace(specs=[SPEC, RESNET], row_schema=row_schema)  # type: ignore[assignment]
    stage._head, stage._logs_events = head, False  # type: ignore[assignment]
    stage._lookups = [lambda video_ids: tables[1].take(pc.index_in(video_ids, tables[1]["video_id"]))]  # type: ignore[list-item]
    stage._pending_ids = pa.array(ids[:3])
    stage._newest = SimpleNamespace(join=lambda rows: rows)  # type: ignore[assignment]
    stage._tally = SimpleNamespace(add=SimpleNamespace(remote=counts.update))
    stage._columns = written_columns([row_schema])
    return stage, head, tables[0]


def test_a_video_with_stored_features_that_are_not_finite_is_rejected_and_the_others_are_classified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrow, "conform", lambda table, columns, what: table)
    counts: dict[str, Any] = {}
    stage, head, batch = features_stage([{"id0"}, {"id2", "id3"}], counts)
    rows = stage(batch)
    assert rows.schema == stage._columns
    assert [(row["video_id"], row["target_0"], row["reject_reason"]) for row in rows.to_pylist()] == [
        ("id1", {"first": pytest.approx(0.1, abs=1e-4)}, None),
        ("id0", None, "features_not_finite"),
        ("id2", None, "features_not_finite"),
    ]
    assert rows["reject_message"].to_pylist() == [
        None,
        "the stored features of efficientnet_lite0 have values that are not finite",
        "the stored features of resnet50 have values that are not finite",
    ]
    assert head.video_ids == [["id1"]]
    assert (counts["done"], counts["ok"], counts["rejected:features_not_finite"]) == (3, 1, 2)


def test_a_batch_in_which_no_video_has_finite_features_needs_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "conform", lambda table, columns, what: table)
    counts: dict[str, Any] = {}
    stage, head, batch = features_stage([{"id0", "id1", "id2"}, set()], counts)
    assert stage(batch)["reject_reason"].to_pylist() == ["features_not_finite"] * 3
    assert head.video_ids == []
    assert (counts["done"], counts["ok"]) == (3, 0)


def test_stored_features_that_are_not_finite_are_not_evaluated(run: str, trained: str, tmp_path: Path) -> None:
    info = read_info(trained)
    (table,) = next(stored_features.open_features([run], "all", info, read_record(trained)).batches)
    spoilt = sequences()[:2]
    spoilt[1][1, 5] = np.nan
    table = table.set_column(
        table.column_names.index("features"), "features", features_column(spoilt, SPEC.feature_dim)
    )
    with pytest.raises(
        ConfigError, match=r"--features f: every value must be finite in float16, is not for /none/1.mp4; "
    ):
        next(stored_features._finite(["f"], iter([[table]])))
    file = hdf5_file(tmp_path / "test_features_multiscale.h5", ["A", "B"])
    with h5py.File(file, "r+") as content:
        content["features"][2, 1, 7] = 70_000.0  # finite in float32, infinite in float16
    with pytest.raises(ConfigError, match=r"every value must be finite in float16, is not for /.*#2; "):
        evaluate(file, trained, tmp_path / "report")
