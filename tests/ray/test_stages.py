"""The stages of the pipeline, one by one. tests/system/test_jobs.py runs the whole pipeline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
import ray.data

from tests.support.tiny_cnn import TINY, use_tiny_cnn
from tests.support.videos import write_video
from vidclf import ray_cluster, schema
from vidclf.archive.manifest import video_id
from vidclf.backbones import int8_weights, weights
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.resolve import resolve
from vidclf.config import ExtractConfig
from vidclf.errors import ConfigError, ErrorBudgetExceeded
from vidclf.features.columns import features_column, features_TD
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.embed_stage import DecodeAndEmbed, EmbedVideos
from vidclf.pipeline.engines import described
from vidclf.pipeline.graph import check_error_rate, limit_frames_in_flight
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.pipeline.pools import pool_sizes
from vidclf.pipeline.sink import written_columns
from vidclf.pipeline.video_embedder import most_trusted
from vidclf.ray_cluster import ClusterResources
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.frame_transform import FrameTransform, FrameTransforms
from vidclf.video.sampling import SamplingPlan


class Counting:
    """A replacement for the tally actor that keeps every report."""

    def __init__(self) -> None:
        self.reports: list[dict[str, float]] = []
        self.add = SimpleNamespace(remote=lambda *reports: self.reports.extend(reports))


def manifest(*paths: Path) -> pa.Table:
    rows = [
        {schema.VIDEO_ID: video_id(str(path)), "video_uri": str(path), "label": "A", "group": "g", "split": "train"}
        for path in paths
    ]
    return pa.Table.from_pylist(rows, schema=schema.MANIFEST)


@pytest.fixture
def decoded(tmp_path: Path) -> pa.Table:
    """A video of 12 frames, a text file, and a video of 2 frames, decoded to at most 4 frames each."""
    (tmp_path / "b.mp4").write_text("text")
    paths = [
        write_video(tmp_path / "a.mp4", 12, size=(128, 64)),
        tmp_path / "b.mp4",
        write_video(tmp_path / "c.mp4", 2),
    ]
    plan = SamplingPlan(num_frames=4, avoid_black=False)
    transforms = FrameTransforms(
        (
            FrameTransform(resize_size=64, crop_size=64, interpolation="bilinear"),
            FrameTransform(resize_size=64, crop_size=32, interpolation="bilinear"),
        )
    )
    tally = Counting()
    tables = list(DecodeVideos(plan, transforms, DecodeLimits(), tally)(manifest(*paths)))
    assert [table.num_rows for table in tables] == [1, 1, 1]
    assert len(tally.reports) == 3
    return pa.concat_tables(tables)


def test_decoding_gives_a_row_for_every_row_in_order(decoded: pa.Table, tmp_path: Path) -> None:
    assert decoded.schema == schema.decoded([64, 32])
    assert [uri.rsplit("/", 1)[1] for uri in decoded["video_uri"].to_pylist()] == ["a.mp4", "b.mp4", "c.mp4"]
    assert decoded["num_frames"].to_pylist() == [4, None, 2]
    assert decoded["reject_reason"].to_pylist() == [None, "not_a_video", None]
    assert decoded["width"].to_pylist() == [128, None, 64]
    # Frame 0 is black. Only of the video of two frames it is sampled.
    assert decoded["is_black"].to_pylist() == [[False, False, False, False], None, [True, False]]
    assert decoded["content_digest"][1].as_py() is None
    assert decoded["size_bytes"].to_pylist() == [
        (tmp_path / "a.mp4").stat().st_size,
        None,
        (tmp_path / "c.mp4").stat().st_size,
    ]


def test_every_transform_has_a_rendition_of_the_same_frames(decoded: pa.Table) -> None:
    wide, _, small = decoded["view_0"].to_pylist()
    assert (len(wide["frames"]), len(small["frames"])) == (4, 2)
    assert decoded["view_0"][1].as_py() is None
    assert {len(frame) for frame in wide["frames"]} == {64 * 64 * 3}
    for row in (0, 2):
        renditions = [decoded[f"view_{index}"][row].as_py()["frames"] for index in range(2)]
        for large, cropped in zip(*renditions, strict=True):
            whole = np.frombuffer(large, np.uint8).reshape(64, 64, 3)
            assert np.array_equal(np.frombuffer(cropped, np.uint8).reshape(32, 32, 3), whole[16:48, 16:48])


@pytest.fixture
def tiny_cnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny CNNs in the place of the backbones: their rows are tested, not the features."""
    use_tiny_cnn(monkeypatch, full_width=True)


def job() -> PipelineJob:
    state = weights.load_weights(*TINY)
    spec = FeatureSpec.of(*TINY, weights.weights_digest(state), SamplingPlan(num_frames=4))
    setup = BackboneSetup(spec=spec, weights=TINY[1], state=state, model=resolve(*TINY))
    target = RunSpec(embeddings=(setup,), output_schema=schema.features(1280))
    return PipelineJob(targets=(target,))


@pytest.mark.usefixtures("ray_session", "tiny_cnn")
def test_embedding_keeps_frames_with_their_video(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{name}.mp4", count) for name, count in (("a", 12), ("b", 2))]
    (tmp_path / "t.mp4").write_text("text")
    whole = job()
    decode = DecodeVideos(whole.plan, whole.transforms(), DecodeLimits(), Counting())
    rows = list(decode(manifest(paths[0], tmp_path / "t.mp4", paths[1])))
    tally = Counting()
    (setup,) = whole.embeddings
    network = convert(described(setup), setup.state)
    embed = EmbedVideos(whole, {setup.spec.key: ray.put(network)}, "fp32", 0, tally)
    assert tally.reports == [{"cnn_engine:openvino fp32": 1}]
    tally.reports.clear()

    def features(table: pa.Table) -> list[Any]:
        written = pa.Table.from_struct_array(table.filter(pc.is_null(table["reject_reason"]))["target_0"])
        assert written.schema == whole.targets[0].row_schema == schema.embedded(1280)
        return [features_TD(row) for row in written["features"]]

    together = embed(pa.concat_tables(rows))
    assert together.schema == written_columns([whole.targets[0].row_schema])
    assert [None if row is None else row["num_frames"] for row in together["target_0"].to_pylist()] == [4, 2, None]
    assert together["reject_reason"].to_pylist() == [None, None, "not_a_video"]
    counts = {name: count for name, count in tally.reports[0].items() if name != "cnn_s"}
    assert counts == {"done": 3, "ok": 2, "frames_embedded": 6, "rejected:not_a_video": 1}
    # Each video alone, and both as a slice of a larger table, give the same features. Frames differ by 5 times as much.
    for index, row in ((0, rows[0]), (1, rows[2])):
        np.testing.assert_allclose(features(together)[index], features(embed(row))[0], atol=1e-3)
    sliced = embed(pa.concat_tables(rows).combine_chunks().slice(2, 1))
    np.testing.assert_allclose(features(sliced)[0], features(together)[1], atol=1e-3)


@pytest.mark.usefixtures("ray_session", "tiny_cnn")
def test_a_worker_that_decodes_and_embeds_does_what_two_would(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{number}.mp4", 5) for number in range(5)]
    (tmp_path / "t.mp4").write_text("text")
    rows = manifest(paths[0], tmp_path / "t.mp4", *paths[1:])
    whole = job()
    (setup,) = whole.embeddings
    networks = {setup.spec.key: ray.put(convert(described(setup), setup.state))}
    tally = Counting()
    limits = DecodeLimits()
    fused = DecodeAndEmbed(job=whole, limits=limits, networks=networks, precision="fp32", num_gpus=0, tally=tally)
    tables = list(fused(rows))
    # Rejected rows come after the ok ones of their group of four.
    assert [[row is not None for row in table["target_0"].to_pylist()] for table in tables] == [
        [True, True, True, False],
        [True, True],
    ]
    decoded_rows = pa.concat_tables(DecodeVideos(whole.plan, whole.transforms(), limits, tally)(rows))
    apart = EmbedVideos(whole, networks, "fp32", 0, tally)(decoded_rows)
    by_id = "video_id"
    assert pa.concat_tables(tables).sort_by(by_id).to_pylist() == apart.sort_by(by_id).to_pylist()
    counts = sum((Counter(report) for report in tally.reports), Counter())
    assert (counts["decoded"], counts["done"], counts["ok"], counts["rejected:not_a_video"]) == (12, 12, 10, 2)


class Concatenation:
    """A head whose rows hold the features of two backbones, one after the other."""

    engine = "numpy"

    def __call__(self, embedded: Sequence[pa.Table]) -> pa.Table:
        pairs = zip(*(table["features"] for table in embedded), strict=True)
        rows = [np.concatenate([features_TD(row) for row in pair], axis=1) for pair in pairs]
        table = embedded[0].drop_columns(["features"])
        return table.append_column("features", features_column(rows, 1280 + 2048)).select(embedded[0].column_names)


@pytest.mark.usefixtures("ray_session", "tiny_cnn")
def test_a_head_gets_the_features_of_each_of_its_backbones_from_one_decoding(tmp_path: Path) -> None:
    embeddings = [job().embeddings[0]]
    state = weights.load_weights("resnet50", "random")
    spec = FeatureSpec.of("resnet50", "random", weights.weights_digest(state), embeddings[0].spec.plan)
    embeddings.append(BackboneSetup(spec=spec, weights="random", state=state, model=resolve("resnet50", "random")))
    both = RunSpec(
        embeddings=tuple(embeddings),
        output_schema=schema.features(1280 + 2048),
        make_head=lambda device: Concatenation(),
    )
    saved = [
        RunSpec(name=e.spec.backbone, embeddings=(e,), output_schema=schema.features(e.spec.feature_dim))
        for e in embeddings
    ]
    # The second backbone first, so that a head's order is not the job's.
    whole = PipelineJob(targets=(saved[1], both, saved[0]))
    assert [e.spec.backbone for e in whole.embeddings] == ["resnet50", "efficientnet_lite0"]
    assert [e.state for e in whole.without_states().embeddings] == [{}, {}]
    decode = DecodeVideos(spec.plan, whole.transforms(), DecodeLimits(), Counting())
    (rows,) = decode(manifest(write_video(tmp_path / "a.mp4", 2)))
    networks = {e.spec.key: convert(described(e), e.state) for e in whole.embeddings}
    references = {key: ray.put(network) for key, network in networks.items()}
    embed = EmbedVideos(whole, references, "fp32", 0, Counting())
    resnet, joined, lite0 = (
        features_TD(pa.Table.from_struct_array(embed(rows)[f"target_{index}"])["features"][0]) for index in range(3)
    )
    assert (resnet.shape, joined.shape, lite0.shape) == ((2, 2048), (2, 3328), (2, 1280))
    assert np.array_equal(joined, np.concatenate([lite0, resnet], axis=1))


@pytest.mark.usefixtures("tiny_cnn")
@pytest.mark.parametrize(
    ("num_gpus", "is_quantized", "values", "message"),
    [
        (0, False, {"gpus_per_cnn_worker": 1.0}, "--gpus-per-cnn-worker must be 0 on a cluster without GPUs, got 1"),
        (
            2,
            False,
            {"cnn_workers": 3},
            "--cnn-workers must be at most 2 with --gpus-per-cnn-worker 1 on a cluster of 2",
        ),
        (1, True, {}, "--weights random: are quantized and run only on CPUs (--gpus-per-cnn-worker 0)"),
    ],
)
def test_what_the_clusters_gpus_cannot_do_is_refused_before_the_output_is_there(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    num_gpus: int,
    is_quantized: bool,
    values: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(ray_cluster, "connect", lambda: ClusterResources(num_cpus=8, num_gpus=num_gpus))
    monkeypatch.setattr(int8_weights, "is_quantized", lambda state: is_quantized)
    config = ExtractConfig(manifest="m", output=str(tmp_path / "features"), **values)
    with pytest.raises(ConfigError, match=re.escape(message)):
        embed_videos(config, manifest(write_video(tmp_path / "a.mp4", 2)), job())
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.usefixtures("ray_session")
def test_the_bound_on_frames_in_flight_reaches_a_pipeline_that_is_read_already(tmp_path: Path) -> None:
    pq.write_table(manifest(Path("/a"), Path("/b")), tmp_path / "manifest.parquet")
    videos = ray.data.read_parquet(str(tmp_path / "manifest.parquet"), num_cpus=0)
    config = ExtractConfig(manifest="m", output="o", decode_workers=3, cnn_workers=2)
    pools = pool_sizes(config, ClusterResources(num_cpus=16, num_gpus=0))
    limit_frames_in_flight(videos, config, pools, video_bytes=11_000_000)
    context = videos.map_batches(lambda batch: batch).context
    assert context.execution_options.resource_limits.object_store_memory == (3 * 16 + 2 * 32) * 11_000_000
    assert context.target_max_block_size == 4 * 11_000_000


@pytest.mark.parametrize(
    ("counts", "max_error_rate", "stops"),
    [
        ({}, 0.5, False),
        ({"done": 19, "rejected:not_found": 19}, 0.5, False),
        ({"done": 20, "rejected:not_found": 10}, 0.5, False),
        ({"done": 20, "rejected:not_found": 6, "rejected:truncated": 5}, 0.5, True),
        ({"done": 1000, "rejected:truncated": 1}, 0.0, True),
        ({"done": 1000, "rejected:truncated": 1000}, 1.0, False),
    ],
)
def test_the_error_budget(counts: dict[str, float], max_error_rate: float, stops: bool) -> None:
    if not stops:
        check_error_rate(counts, max_error_rate)
        return
    with pytest.raises(ErrorBudgetExceeded, match="videos were rejected"):
        check_error_rate(counts, max_error_rate)


def test_the_error_budget_names_the_reasons() -> None:
    message = "11 of 20 videos were rejected (not_found 6, truncated 5), a share above --max-error-rate 0.5"
    with pytest.raises(ErrorBudgetExceeded) as error:
        check_error_rate({"done": 20, "rejected:truncated": 5, "rejected:not_found": 6}, 0.5)
    assert str(error.value) == message


def test_of_two_rows_of_a_video_the_more_trusted_is_kept() -> None:
    rows = pa.table({"video_id": ["a", "b", "c"], "trust_score": [0.5, 0.9, 0.2], "top_label": ["x", "x", "x"]})
    others = pa.table({"video_id": ["c", "b"], "trust_score": [0.3, 0.9], "top_label": ["y", "y"]})
    assert most_trusted(rows, others).to_pydict() == {
        "video_id": ["a", "b", "c"],
        "trust_score": [0.5, 0.9, 0.3],
        "top_label": ["x", "x", "y"],
    }
