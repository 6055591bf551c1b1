"""Content of the report page: it agrees with the files, escapes their text, and loads nothing."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluate import main
from tests.support.predictions import Predicted, manifest, write_run
from tests.support.split_records import recorded, write_ensemble
from tests.support.split_records import table as split_table
from vidclf import schema, storage
from vidclf.config import EvaluateConfig
from vidclf.ensemble import split_record
from vidclf.ensemble.cross_validation import CrossValidation
from vidclf.errors import ConfigError
from vidclf.metrics.intervals import TOO_FEW_SOURCES
from vidclf.reports import ensemble_facts, evaluate
from vidclf.runs import output_allowlist, outputs
from vidclf.runs.layout import Run

VIDEOS = [
    Predicted("1", "A", 0.9),
    Predicted("2", "B", 0.8),
    Predicted("3", "B", 0.7, is_accepted=False),
    Predicted("4", "B", 1.0),
    Predicted("<script>alert(1)</script>", "B", 0.6),
]
TRUTH = {
    "1": ("A", "test"),
    "2": ("A", "test"),
    "3": ("B", "test"),
    "4": ("B", "train"),
    "<script>alert(1)</script>": ("A", "val"),
}


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    """A finished classification of VIDEOS."""
    storage.publish_table(str(tmp_path / "manifest.parquet"), manifest(TRUTH))
    return EvaluateConfig(
        predictions=write_run(tmp_path / "predictions", VIDEOS),
        manifest=str(tmp_path / "manifest.parquet"),
        output=str(tmp_path / "report"),
    )


def page_of(config: EvaluateConfig) -> str:
    evaluate.evaluate(config)
    return (Path(config.output) / "index.html").read_text()


def test_figures_are_those_of_the_test_split(config: EvaluateConfig) -> None:
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert evaluation.headline == "test"
    written = json.loads((Path(config.output) / "metrics.json").read_text())
    test = written["per_split"]["test"]
    assert test["confusion"] == [[1, 1], [0, 1]]
    assert (test["num_correct"], test["macro_f1"], test["weighted_f1"]) == (2, *[pytest.approx(2 / 3)] * 2)
    assert {split: scores["num_videos"] for split, scores in written["per_split"].items()} == {
        "train": 1,
        "val": 1,
        "test": 3,
    }
    assert (written["detail"]["num_sources"], written["detail"]["num_accepted"]) == (3, 2)
    assert written["detail"]["risk_coverage"]["trust_score"]["risk"] == [0.0, 0.5, 0.33333]


def test_the_table_for_a_terminal(config: EvaluateConfig) -> None:
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert evaluate.table(evaluation, "out").splitlines() == [
        "videos               6",
        "ok                   5",
        "quarantined          1 (truncated 1)",
        "videos per second    2.50",
        "accuracy (test)      0.667 (2 of 3 videos, no interval: fewer than 5 effective sources; chance 0.50)",
        "held out             not known: the predictions do not record where their ensemble is; give --ensemble",
        "mean of the sources  0.667 (3 sources)",
        "accepted             2 of 3 videos, 1 of them right",
        "report               out/index.html",
    ]


def test_sublabels_are_shown_as_a_tree(tmp_path: Path) -> None:
    rows = [
        Predicted("1", "A", 0.9, top_sublabel="a1", answer_level="sublabel"),
        Predicted("2", "A", 0.8, top_sublabel="a2", answer_level="class"),
        Predicted("3", "B", 0.7, is_accepted=False, answer_level="abstained"),
    ]
    truth = manifest({video: (label, "test") for video, label in {"1": "A", "2": "A", "3": "B"}.items()})
    place = truth.column_names.index("sublabel")
    truth = truth.set_column(place, "sublabel", pa.array(["a1", "a<1>", None], pa.string()))
    storage.publish_table(str(tmp_path / "m.parquet"), truth)
    config = EvaluateConfig(
        predictions=write_run(tmp_path / "p", rows), manifest=str(tmp_path / "m.parquet"), output=str(tmp_path / "r")
    )
    page = page_of(config)
    assert '<section id="sublabels">' in page
    assert "50.0 % of the 2 videos with a known sublabel get the right class and sublabel" in page
    # Class A has the sublabels a1, a2 and a<1>, of which the ensemble does not predict the last; B has none.
    assert page.count('<tr><th scope="rowgroup"><b>A</b></th><td colspan="4"></td></tr>') == 1
    assert page.count('scope="rowgroup"') == 1
    assert page.count('<tr><th scope="row" title="A / a1">a1</th>') == 1
    assert '<span title="A / a&lt;1&gt;">a&lt;1&gt;</span>' in page
    assert 'title="A / a&lt;1&gt; classified as A / a2: 1, 100.0 %"' in page
    written = json.loads((tmp_path / "r" / "metrics.json").read_text())["detail"]["sublabels"]
    assert written["confusion"] == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert [row["num_videos"] for row in written["levels"]] == [1, 1, 1]


def test_a_report_without_sublabels_has_no_section_of_them(config: EvaluateConfig) -> None:
    assert "sublabels" not in re.sub(r"<style>.*?</style>", "", page_of(config), flags=re.DOTALL)


def test_a_cross_validation_is_shown(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # 30 of 40 videos, all wrong ones from one of 21 sources.
    groups = ["large"] * 20 + [str(index) for index in range(20)]
    record = CrossValidation.of(np.arange(40) >= 10, groups, 5, "digest")
    monkeypatch.setattr(ensemble_facts, "cross_validation", lambda info: record)
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert (
        "cross-validation     0.750 (30 of 40 videos, no interval: fewer than 5 effective sources); mean of "
        "the 21 sources 0.976 (95 % interval 0.80 to 1.00); 5 folds"
    ) in evaluate.table(evaluation, "out").splitlines()
    page = (Path(config.output) / "index.html").read_text()
    assert "30 of 40 videos, each classified by members trained without its source, 5 folds" in page
    assert json.loads((Path(config.output) / "metrics.json").read_text())["cross_validation"]["num_correct"] == 30


def test_a_missing_interval_is_explained(config: EvaluateConfig) -> None:
    page = page_of(config)
    assert TOO_FEW_SOURCES == "no interval: fewer than 5 effective sources"
    assert page.count(f"<span>{TOO_FEW_SOURCES}</span>") == 4
    assert "95 % interval <" not in page


def test_unnamed_sources_are_pointed_out(config: EvaluateConfig) -> None:
    warning = "Each video counts as a source of its own: if several are of one recording, the intervals are too narrow."
    assert warning in page_of(config)
    # Videos 1 and 2 are of one recording: 3 test videos of 2 sources.
    groups = pa.array(["r", "r", "3", "4", "5"])
    place = schema.MANIFEST.get_field_index("group")
    named = manifest(TRUTH).set_column(place, schema.MANIFEST.field("group"), groups)
    storage.publish_table(str(config.manifest), named)
    assert warning not in page_of(config)


def test_the_page_states_for_which_sources_a_certificate_holds(config: EvaluateConfig) -> None:
    risk = {
        **{"abstain_risk": 0.05, "confidence_level": 0.9, "threshold": 0.6, "basis": "certified", "num_accepted": 50},
        **{"num_errors": 0, "num_sources": 50, "num_wrong_sources": 0, "num_videos": 60, "estimate": 0.02},
        "early": {},
    }
    assert config.predictions is not None
    summary = Run(config.predictions).summary_file
    storage.publish_json(summary, {**storage.read_json(summary), "risk": risk})
    assert (
        "Basis of --abstain-risk: certified: at most 5 % of accepted videos wrong on sources like those of validation, "
        "confidence 0.9; 0 of 50 accepted held-out videos wrong, in 0 of their 50 sources."
    ) in page_of(config)


def test_names_from_the_archive_are_escaped(config: EvaluateConfig) -> None:
    page = page_of(config)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "cut &lt;b&gt;off&lt;/b&gt;" in page


def test_the_page_loads_nothing(config: EvaluateConfig) -> None:
    page = page_of(config)
    targets = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?([^"'\s>)]+)""", page)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert "@import" not in page


def test_mistakes_in_the_test_split_come_first_and_say_when_a_video_is_gone(config: EvaluateConfig) -> None:
    page = page_of(config)
    assert "Misclassified (2, all splits)" in page
    assert "Abstained (1, all splits)" in page
    assert page.index('<div class="uri">2<') < page.index('<div class="uri">&lt;script')
    assert page.count("the video can no longer be read: not_found") == 3
    with (Path(config.output) / "misclassified.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["split"], row["label"], row["top_label"], row["video_uri"]) for row in rows] == [
        ("test", "A", "B", "2"),
        ("val", "A", "B", "<script>alert(1)</script>"),
    ]


def test_frames_are_shown_of_as_many_videos_as_asked(tmp_path: Path, config: EvaluateConfig) -> None:
    fewer = EvaluateConfig(
        predictions=config.predictions, manifest=config.manifest, output=config.output, max_examples=0
    )
    assert page_of(fewer).count("can no longer be read") == 0


def test_training_curves_say_why_they_are_missing(config: EvaluateConfig) -> None:
    assert "the predictions do not record where their ensemble is" in page_of(config)
    assert config.predictions is not None
    storage.publish_bytes(f"{config.predictions}/run_config.yaml", b"ensemble: /none/ensemble\n")
    assert "the ensemble is no longer at /none/ensemble" in page_of(config)


def test_the_page_tells_the_command_that_made_it(config: EvaluateConfig) -> None:
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert evaluation.provenance["command"] == (
        "python jobs/evaluate.py --predictions ../predictions --manifest ../manifest.parquet --output ."
    )
    assert evaluation.provenance["feature key"]


def test_unlabelled_and_unlisted_videos_are_counted_not_scored(config: EvaluateConfig) -> None:
    some = {"1": ("A", "test"), "2": (None, "test"), "3": ("B", "test")}
    storage.publish_table(str(config.manifest), manifest(some))
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert (evaluation.num_unlabelled, evaluation.num_unmatched) == (1, 2)
    assert evaluation.left_out == ["1 video without a label (for one 2)", "2 videos not in the manifest (for one 4)"]
    assert evaluation.per_split["test"].num_videos == 2


def test_a_manifest_of_other_videos_is_refused(config: EvaluateConfig) -> None:
    storage.publish_table(str(config.manifest), manifest({"other": ("A", "test")}))
    with pytest.raises(ConfigError) as error:
        evaluate.evaluate(config)
    assert str(error.value) == (
        "no classified video is in the manifest: it has /none/other, the predictions have /none/1; give the manifest "
        "of the classified archive, or, if the archive is mounted elsewhere now, index it with --continue-from and "
        "--root OLD=NEW"
    )


def test_unknown_and_misspelt_labels_are_left_out_and_named(config: EvaluateConfig) -> None:
    labels = {**TRUTH, "1": ("Sport", "test"), "2": ("a", "test"), "5": ("A", "test"), "q": ("A", "test")}
    storage.publish_table(str(config.manifest), manifest(labels))
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert evaluation.per_split["test"].num_videos == 1
    expected = [
        "1 video with the label 'Sport', which is no class of the ensemble (for one 1)",
        "1 video with the label 'a', which is no class of the ensemble; did you mean 'A'? (for one 2)",
        "1 video with a label but without a prediction or a reject reason (for one 5)",
    ]
    assert evaluation.left_out == expected
    lines = evaluate.table(evaluation, "out").splitlines()
    assert [line.removeprefix("not scored           ") for line in lines if line.startswith("not scored")] == expected
    assert "did you mean &#39;A&#39;? (for one 2)." in (Path(config.output) / "index.html").read_text()
    with pytest.raises(ConfigError) as error:
        evaluate.evaluate(replace(config, strict=True))
    assert str(error.value) == (
        f"--manifest {config.manifest}: with --strict every video must be scored, which is not possible for 1 video "
        "with the label 'Sport', which is no class of the ensemble (for one /none/1), 1 video with the label 'a', "
        "which is no class of the ensemble; did you mean 'A'? (for one /none/2), 1 video with a label but without a "
        "prediction or a reject reason (for one /none/5); correct the labels, or leave out --strict"
    )


def test_labels_of_other_classes_alone_are_refused(config: EvaluateConfig) -> None:
    storage.publish_table(str(config.manifest), manifest(dict.fromkeys(TRUTH, ("Z", "test"))))
    with pytest.raises(ConfigError) as error:
        evaluate.evaluate(config)
    assert str(error.value) == (
        "no video can be scored: 5 videos with the label 'Z', which is no class of the ensemble (for one /none/1); the "
        "classes of the ensemble are A, B"
    )


def test_an_unfinished_classification_is_refused(config: EvaluateConfig) -> None:
    Path(Run(str(config.predictions)).summary_file).unlink()
    with pytest.raises(ConfigError, match="the job has not ended"):
        evaluate.evaluate(config)


def test_a_directory_of_features_is_refused(config: EvaluateConfig) -> None:
    storage.publish_json(Run(str(config.predictions)).identity_file, {"ensemble_id": None})
    with pytest.raises(ConfigError, match=r"must be a directory that jobs/classify\.py wrote"):
        evaluate.evaluate(config)


def test_a_dry_run_writes_nothing(config: EvaluateConfig, capsys: pytest.CaptureFixture[str]) -> None:
    dry = EvaluateConfig(predictions=config.predictions, manifest=config.manifest, output=config.output, dry_run=True)
    assert evaluate.evaluate(dry) is None
    assert capsys.readouterr().out == f"would score 5 videos into {config.output}\n"
    assert not Path(config.output).exists()


def test_predictions_with_a_video_twice_are_refused(config: EvaluateConfig) -> None:
    assert config.predictions is not None
    first = Run(config.predictions).shards()[0]
    storage.publish_table(Run(config.predictions).manifest_file, manifest(TRUTH))
    storage.publish_table(f"{config.predictions}/part-twice.parquet", storage.read_table(first).slice(0, 1))
    with pytest.raises(
        ConfigError,
        match=r"--predictions .*: every video must have one row, 1 have several \(for example /none/1\).*audit",
    ):
        evaluate.evaluate(config)


def test_a_report_holds_only_files_of_its_closed_list(config: EvaluateConfig) -> None:
    assert main(config) == 0
    written = outputs.contents(output_allowlist.REPORT, config.output)
    assert sorted(written.job_files) == [
        "_vidclf.json",
        "abstained.csv",
        "index.html",
        "metrics.json",
        "misclassified.csv",
        "run_config.yaml",
    ]
    assert written.foreign == []


def test_a_report_names_no_absolute_path_and_no_credentials(tmp_path: Path, config: EvaluateConfig) -> None:
    signed = "https://user:pass@media.example/archive/{}.mp4?X-Amz-Signature=0a1b"
    table = manifest(TRUTH)
    uris = [signed.format(video_id) for video_id in table["video_id"].to_pylist()]
    place = table.column_names.index("video_uri")
    storage.publish_table(str(config.manifest), table.set_column(place, "video_uri", [uris]))
    for path in Run(str(config.predictions)).shards():
        rows = storage.read_table(path)
        uris = [signed.format(video_id) for video_id in rows["video_id"].to_pylist()]
        storage.publish_table(path, rows.set_column(rows.column_names.index("video_uri"), "video_uri", [uris]))
    evaluate.evaluate(replace(config, max_examples=0))  # examples would be fetched from there
    files = sorted(path for path in Path(config.output).iterdir() if path.suffix != ".parquet")
    assert [path.name for path in files] == [
        "_vidclf.json",
        "abstained.csv",
        "index.html",
        "metrics.json",
        "misclassified.csv",
    ]
    for path in files:
        text = path.read_text()
        assert not any(secret in text for secret in ("user:pass", "0a1b", str(tmp_path), "media.example")), path
    assert "2.mp4?X-Amz-Signature=***" in (Path(config.output) / "misclassified.csv").read_text()


def test_locations_are_relative_to_the_base_that_is_given(config: EvaluateConfig) -> None:
    evaluate.evaluate(replace(config, base_uri="/"))
    assert ",none/2,\n" in (Path(config.output) / "misclassified.csv").read_text()
    evaluate.evaluate(replace(config, base_uri="/elsewhere"))
    assert ",/none/2,\n" in (Path(config.output) / "misclassified.csv").read_text()


ROWS = (
    recorded("1", "train"),
    recorded("2", "test"),
    recorded("3", "test"),
    recorded("4", "train"),
)
"""The record of an ensemble, which has another split for video 1 than the manifest."""


def with_ensemble(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any], **values: Any) -> str:
    """Give the predictions of `config` an ensemble with the record `rows`; return its directory."""
    directory = write_ensemble(Path(config.output).parent / "ensemble", *rows, **values)
    storage.publish_bytes(f"{config.predictions}/run_config.yaml", f"ensemble: {directory}\n".encode())
    # Of the ensemble's description the report needs no more here.
    monkeypatch.setattr(ensemble_facts, "find_ensemble", lambda *_: (directory, ""))
    monkeypatch.setattr(evaluate, "read_info", lambda _: None)
    return directory


def test_the_ensembles_record_decides_what_is_held_out(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with_ensemble(config, monkeypatch, *ROWS)
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    # The manifest has video 1 in test, the ensemble was trained on it.
    assert {split: scores.num_videos for split, scores in evaluation.per_split.items()} == {
        "train": 2,
        "val": 1,
        "test": 2,
    }
    assert evaluation.is_held_out
    moved = (
        "1 video has another split by the ensemble's own record than in the manifest, 1 of them no longer test "
        "(recorded with that split: 1)"
    )
    assert evaluate.table(evaluation, "out").splitlines()[4:6] == [
        "accuracy on held-out sources  0.500 (1 of 2 videos, no interval: fewer than 5 effective sources; chance 0.50)",
        f"splits                        {moved}",
    ]
    written = json.loads((Path(config.output) / "metrics.json").read_text())
    assert written["split_facts"] == {
        "doubt": "",
        "num_moved": 1,
        "num_no_test": 1,
        "reasons": {"recorded": 1},
        "num_unsearched": 0,
    }
    page = (Path(config.output) / "index.html").read_text()
    assert moved.replace("'", "&#39;") in page
    assert "held-out sources (test)" in page
    assert "sources that neither training nor validation used, by the ensemble&#39;s own record" in page


def test_the_content_of_a_training_video_is_never_test(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = [recorded(f"old name of {name}", "train", content_digest=f"digest of {name}") for name in "23"]
    with_ensemble(config, monkeypatch, ROWS[0], *copied)
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert {split: scores.num_videos for split, scores in evaluation.per_split.items()} == {"train": 4, "val": 1}
    assert evaluation.split_facts.reasons == {"recorded": 1, "content": 2}
    assert evaluate.table(evaluation, "out").splitlines()[4].startswith("accuracy (val)")


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        (
            {"members": [{"imported_from": "best_ensemble_model_0.pt"}]},
            "the ensemble's members were imported, and the videos that they were trained on are not known",
        ),
        (
            {"splits": None},
            "an earlier version of vidclf trained the ensemble, and its record of the splits cannot be checked",
        ),
    ],
)
def test_without_a_record_that_can_be_trusted_nothing_is_called_held_out(
    config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], doubt: str
) -> None:
    with_ensemble(config, monkeypatch, recorded("4", "train"), **values)
    evaluation = evaluate.evaluate(config)
    assert evaluation is not None
    assert not evaluation.is_held_out
    lines = evaluate.table(evaluation, "out").splitlines()
    assert lines[4].startswith("accuracy (test)      0.667 (2 of 3 videos")
    assert f"held out             not known: {doubt}" in lines
    page = (Path(config.output) / "index.html").read_text()
    assert "held-out sources" not in page
    assert f"not known to be held out: {doubt}".replace("'", "&#39;") in page


def test_an_edited_record_is_refused(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = with_ensemble(config, monkeypatch, *ROWS)
    split_record.write(directory, split_table(recorded("1", "test")))
    with pytest.raises(ConfigError, match=r"^--ensemble .*/splits\.parquet: is not the file that ensemble\.json lists"):
        evaluate.evaluate(config)
    assert not Path(config.output).exists()
