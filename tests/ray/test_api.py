"""The Python interface with Ray: the job and single videos agree, and the notebook runs. [Ray]"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vidclf
from jobs.classify import main
from tests.support.ensembles import write_small_ensemble
from tests.support.videos import write_video
from vidclf.config import ClassifyConfig
from vidclf.runs.layout import Run

pytestmark = pytest.mark.usefixtures("ray_session")

ROOT = Path(__file__).resolve().parents[2]


def write_archive(directory: Path) -> Path:
    """A directory with two videos and a text file that has the name of a video."""
    directory.mkdir(parents=True)
    write_video(directory / "a.mp4", 12)
    write_video(directory / "b.mp4", 12, size=(96, 64), noise=True)
    (directory / "c.mp4").write_text("text")
    return directory


def test_the_function_the_job_and_single_videos_agree(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive")
    directory = write_small_ensemble(tmp_path / "ensemble", ["A", "B", "C"], num_frames=3)
    options = {"accept_uncertified": True, "precision": "fp32", "max_error_rate": 1.0, "decode_workers": 1}
    result = vidclf.classify(input=str(archive), ensemble=directory, output=str(tmp_path / "of_function"), **options)
    assert (result.location, result.summary["num_ok"]) == (str(tmp_path / "of_function"), 2)
    assert result.summary == {**Run(result.location).summary()}
    config = ClassifyConfig(input=str(archive), ensemble=directory, output=str(tmp_path / "of_job"), **options)  # type: ignore[arg-type]
    assert main(config) == 0
    table = result.predictions().sort_by("video_uri")
    assert table.equals(vidclf.read_predictions(config.output).sort_by("video_uri"))
    files = {path.name for path in Path(config.output).iterdir() if not path.name.startswith("part-")}
    assert files == {path.name for path in Path(result.location).iterdir() if not path.name.startswith("part-")}
    with vidclf.Ensemble.load(directory, accept_uncertified=True, precision="fp32") as ensemble:
        for row in table.to_pylist():
            one = ensemble.classify(row["video_uri"])
            assert (one.label, one.verdict, one.top_label) == (row["label"], row["verdict"], row["top_label"])
            assert list(one.probabilities.values()) == pytest.approx(row["probabilities"], abs=1e-5)
            assert one.trust_score == pytest.approx(row["trust_score"], abs=1e-5)
            assert one.ood_score == pytest.approx(row["ood_score"], abs=1e-5)
            assert list(one.attention) == pytest.approx(row["attention"], abs=1e-5)
            assert list(one.pts_s) == row["pts_s"]
        with pytest.raises(vidclf.VideoRejected) as rejected:
            ensemble.classify(str(archive / "c.mp4"))
    assert result.summary["reasons"] == {rejected.value.reason.value: 1}


def test_the_code_of_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells in order, with outputs of a demonstration that has a small ensemble and two videos."""
    archive = write_archive(tmp_path / "examples" / "archive")
    (archive / "c.mp4").rename(archive / "SOURCES.md")
    write_small_ensemble(tmp_path / "demo" / "ensemble", ["A", "B"], num_frames=3)
    notebook = json.loads((ROOT / "examples" / "classify.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # Outputs are not stored, since they would not be those of this version.
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.chdir(tmp_path / "examples")
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert "2 videos classified, 0 rejected" in lines
    assert lines[-1] == "not_a_video"
    assert isinstance(names["prediction"], vidclf.Prediction)
    assert (tmp_path / "demo" / "from_python" / "summary.json").exists()
