"""The Python interface without Ray: lazy names, refusals, reading predictions, and single videos with a small
ensemble."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import vidclf
from tests.support.ensembles import write_small_ensemble
from tests.support.predictions import Predicted, manifest, write_run
from tests.support.videos import write_video
from vidclf import api, cli, schema, storage
from vidclf.classification.archive_job import written
from vidclf.config import ClassifyConfig
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.errors import ConfigError
from vidclf.runs import lease
from vidclf.runs.layout import Run
from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected


def loaded_by(code: str) -> set[str]:
    """Which of the slow packages a fresh Python has imported after `code`."""
    show = "; import sys; print(*({'numpy', 'pyarrow', 'ray', 'torch'} & set(sys.modules)))"
    return set(subprocess.check_output([sys.executable, "-c", code + show], text=True).split())


def test_the_package_imports_nothing_and_its_functions_neither_torch_nor_ray() -> None:
    assert loaded_by("import vidclf") == set()
    assert loaded_by("import vidclf; vidclf.classify; vidclf.Ensemble") <= {"numpy", "pyarrow"}


def test_every_public_name_exists_and_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "python.md").read_text()
    assert vidclf.__all__ == sorted(vidclf.__all__)
    for name in vidclf.__all__:
        assert getattr(vidclf, name).__doc__
        assert name in str(vidclf.__doc__)
        assert name in dir(vidclf)
        assert f"`{name}" in page or f"`vidclf.{name}" in page
    with pytest.raises(AttributeError, match="module 'vidclf' has no attribute 'clasify'"):
        vidclf.clasify  # noqa: B018


def test_classify_refuses_with_the_line_of_the_command(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"^unknown option 'inputs'; did you mean 'input'\?$"):
        vidclf.classify(inputs="videos", ensemble="ensemble", output=output)
    with pytest.raises(ConfigError) as of_command:
        cli.parse(ClassifyConfig, ["--input", "v", "--ensemble", "e", "--output", output, "--abstain-risk", "2"])
    with pytest.raises(ConfigError) as of_function:
        vidclf.classify(input="v", ensemble="e", output=output, abstain_risk=2)
    assert str(of_function.value) == str(of_command.value) == "--abstain-risk must be in (0, 1), got 2.0"
    with pytest.raises(ConfigError, match=r"^--ensemble must be given"):
        vidclf.classify(input="v", output=output)
    with pytest.raises(ConfigError, match=r"^dry_run must be left out"):
        vidclf.classify(input="v", ensemble="e", output=output, dry_run=True)
    assert not (tmp_path / "out").exists()


def test_classify_refuses_an_output_that_another_job_writes(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    config = ClassifyConfig(input=str(tmp_path / "videos"), ensemble="e", output=str(tmp_path / "out"))
    with lease.held(written(config), "classify"), pytest.raises(ConfigError, match=r"--output .*out: .*classify"):
        vidclf.classify(input=config.input, ensemble=str(tmp_path / "ensemble"), output=config.output)


def test_errors_show_no_credentials() -> None:
    with pytest.raises(OutdatedEnsembleError) as refused, api._masked():
        raise OutdatedEnsembleError("s3://key:secret@bucket/ensemble", "without views") from OSError("secret")
    assert str(refused.value).startswith("--ensemble s3://***@bucket/ensemble: was calibrated by an earlier version")
    assert refused.value.__cause__ is None
    with pytest.raises(ConfigError) as refused_location:
        vidclf.read_predictions("s3://key:secret@bucket/run?token=abc")
    assert not {"secret", "abc"} & set(re.split(r"\W", str(refused_location.value)))


def finished(run: Path, *videos: Predicted) -> Path:
    """A finished classification of `videos` and of the rejected video `q`, with its manifest."""
    write_run(run, list(videos))
    ids = dict.fromkeys(("q", *(video.video for video in videos)), (None, None))
    storage.publish_table(Run(str(run)).manifest_file, manifest(ids))
    return run


def test_read_predictions_returns_one_row_per_video(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", Predicted("1", "A", 0.75), Predicted("2", "B", 0.5, is_accepted=False))
    table = vidclf.read_predictions(str(run))
    assert table.schema == schema.predictions(2)
    columns = ["video_id", "label", "top_label", "confidence", "probabilities"]
    assert table.select(columns).sort_by("video_id").to_pylist() == [
        {"video_id": "1", "label": "A", "top_label": "A", "confidence": 0.75, "probabilities": [0.75, 0.25]},
        {"video_id": "2", "label": None, "top_label": "B", "confidence": 0.5, "probabilities": [0.5, 0.5]},
    ]


def test_read_predictions_refuses_what_is_no_finished_classification(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run must be a directory with the output of vidclf classify, got "):
        vidclf.read_predictions(str(tmp_path))
    run = finished(tmp_path / "run", Predicted("1", "A", 0.75), Predicted("2", "B", 0.5))
    (shard,) = Run(str(run)).shards()
    shutil.copy(shard, str(run / f"part-{'0' * 32}-000009.parquet"))
    with pytest.raises(ConfigError, match=r"every video must have one row, 2 have several \(for example /none/1\)"):
        vidclf.read_predictions(str(run))
    for path in Run(str(run)).shards():
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(ConfigError, match=r"videos are pending; run vidclf classify again"):
        vidclf.read_predictions(str(run))
    (run / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"the job has not ended; run vidclf classify again"):
        vidclf.read_predictions(str(run))


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vidclf.Ensemble]:
    directory = write_small_ensemble(tmp_path_factory.mktemp("ensemble"), ["A", "B", "C"], num_frames=3)
    with vidclf.Ensemble.load(directory, accept_uncertified=True, precision="fp32") as loaded:
        yield loaded


def test_an_ensemble_classifies_a_video(ensemble: vidclf.Ensemble, tmp_path: Path) -> None:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        prediction = ensemble.classify(str(write_video(tmp_path / "a.mp4", 12)))
        assert torch.get_num_threads() == 2  # those of the caller
    finally:
        torch.set_num_threads(num_threads)
    assert ensemble.classes == list(prediction.probabilities) == ["A", "B", "C"]
    assert prediction.top_label == max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
    assert prediction.confidence == prediction.probabilities[prediction.top_label]
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert (prediction.label, prediction.verdict) in [(prediction.top_label, "accepted"), (None, "abstained")]
    assert len(prediction.attention) == len(prediction.pts_s) == 3
    assert sum(prediction.attention) == pytest.approx(1, abs=1e-6)
    assert prediction.pts_s == tuple(sorted(prediction.pts_s))
    with pytest.raises(FrozenInstanceError):
        prediction.label = "A"  # type: ignore[misc]


def test_a_video_that_cannot_be_used_is_rejected_and_the_next_one_classified(
    ensemble: vidclf.Ensemble, tmp_path: Path
) -> None:
    good = str(write_video(tmp_path / "a.mp4", 12))
    before = ensemble.classify(good)
    (tmp_path / "b.mp4").write_text("text")
    for name, reason in (("b.mp4", RejectReason.NOT_A_VIDEO), ("none.mp4", RejectReason.NOT_FOUND)):
        with pytest.raises(VideoRejected) as rejected:
            ensemble.classify(str(tmp_path / name))
        assert rejected.value.reason == reason
    ensemble.close()  # the next video starts the decoder again
    assert ensemble.classify(good) == before


def test_load_refuses_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown option 'ttta'; did you mean 'tta'\?$"):
        vidclf.Ensemble.load(str(tmp_path), ttta=True)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        vidclf.Ensemble.load(str(tmp_path))
