"""Python interface of vidclf: classify an archive, read its predictions, classify single videos.

`import vidclf` offers the names of this module without importing it; the first use of a name does. Torch and Ray are
imported by the functions that need them. docs/guides/python.md explains the interface with examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidclf import arrow, cli, preflight, schema, storage
from vidclf.classification.archive_job import written
from vidclf.config import ClassifyConfig, PredictConfig
from vidclf.config.fields import check_known
from vidclf.credentials import masked_text
from vidclf.errors import ConfigError, RunStopped
from vidclf.runs.layout import Run
from vidclf.runs.state import check_finished
from vidclf.words.archive_job import classify_videos

if TYPE_CHECKING:
    from vidclf.classification.single_video import VideoClassifier


@dataclass(frozen=True, kw_only=True)
class Classification:
    """A finished classification of an archive."""

    location: str
    """path or URI of the directory with the predictions"""
    summary: dict[str, Any]
    """content of its `summary.json`: numbers of videos, reject reasons, rates, and the basis of the threshold"""

    def predictions(self) -> pa.Table:
        """The predictions, as `read_predictions` returns them."""
        return read_predictions(self.location)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction of one video. All numbers are those that the `classify` job writes."""

    label: str | None
    """the class, or None if the ensemble abstains"""
    verdict: str
    """`accepted`, or `abstained` if the trust score is too low or the video unlike the training data"""
    top_label: str
    """the most probable class, also where the ensemble abstains"""
    confidence: float
    """calibrated probability of `top_label`"""
    probabilities: dict[str, float]
    """calibrated probability of each class"""
    trust_score: float
    """estimated probability that `top_label` is right"""
    ood_score: float
    """distance of the video from the training data; above 1 it is unlike all of it"""
    attention: tuple[float, ...]
    """weight of each sampled frame in the prediction; the weights sum to 1"""
    pts_s: tuple[float, ...]
    """time of each sampled frame in the video, in seconds"""


def classify(**options: Any) -> Classification:
    """Classify every video of an archive, as `vidclf classify` does, with its checks, lease and resumption.

    `options` are the flags of `vidclf classify --help` with `_` for `-`, for example `input="videos/"`,
    `ensemble="ensemble/"`, `output="predictions/"`, `tta=True`. A call with an output that is not finished continues
    it. The job runs on the Ray cluster of `RAY_ADDRESS`, or else starts Ray on this machine, where it stays until the
    program ends or calls `ray.shutdown()`. To be called in the main thread.

    Raises ConfigError, with the line that the command prints, before any work if the job must not start. Raises
    RunStopped if it ends before all videos are done; the next call continues. RunStopped is no Exception, like
    KeyboardInterrupt.
    """
    with _masked():
        config = _configured(ClassifyConfig, options)
        if config.dry_run:
            raise ConfigError(
                "dry_run must be left out, because it gives no predictions; use vidclf classify --dry-run"
            )
        with cli.checked_and_held(config, "vidclf.classify", written):
            summaries = classify_videos(config)
            assert summaries is not None  # only a dry run has none
            cli.write_run_config(config, config.output)
    location = storage.canonical(config.output)
    return Classification(location=location, summary=summaries[location])


def read_predictions(run: str) -> pa.Table:
    """The predictions of a finished classification: one row per classified video, with the columns of
    docs/formats.md.

    `run` is the output directory of the `classify` job or of `classify`, a path or URI. Rejected videos have no row.
    Raises ConfigError if `run` is no output of a classification, if videos are pending, or if a video has two rows.
    """
    with _masked():
        directory = Run(storage.canonical(run))
        identity = directory.identity() if storage.exists(directory.identity_file) else {}
        if not identity.get("ensemble_id") or not directory.exists():
            raise ConfigError(f"run must be a directory with the output of vidclf classify, got {run!r}")
        if not directory.is_finished():
            raise ConfigError(f"run {run}: the job has not ended; run vidclf classify again")
        check_finished(run, "run", "vidclf classify")
        is_calibrated = identity.get("settings", {}).get("calibrated", True)
        of_run = schema.predictions if is_calibrated else schema.uncalibrated_predictions
        columns = of_run(len(identity["classes"]))
        tables = list(storage.iter_tables_of(directory.shards(), columns))
        return arrow.conform(pa.concat_tables(tables), columns, "predictions") if tables else columns.empty_table()


class Ensemble:
    """A trained ensemble that classifies one video at a time, on the CPU of this process and without Ray.

    Each video is decoded in a child process with a deadline and a memory limit. `close`, or the end of a `with`
    block, ends that process. An object must not be used by several threads at the same time.
    """

    def __init__(self, classifier: VideoClassifier) -> None:
        """`classifier`: the loaded ensemble. Use `Ensemble.load` instead."""
        self._classifier = classifier

    @classmethod
    def load(cls, directory: str, **options: Any) -> Ensemble:
        """Load the ensemble in `directory`, which `vidclf train` wrote, and the CNNs that compute its features.

        `options` are flags of `vidclf serve --help` with `_` for `-`: those about the ensemble, its decision, the
        precision and the limits of decoding, for example `tta=True` or `abstain_risk=0.02`. Raises ConfigError if this
        machine cannot make the features that the ensemble was trained on.
        """
        with _masked():
            config = _configured(PredictConfig, {**options, "ensemble": directory})
            preflight.check(config)
            # Imported here, because it imports torch, which takes seconds.
            from vidclf.classification.single_video import VideoClassifier

            return cls(VideoClassifier(config))

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self._classifier.model.classes

    def classify(self, path: str) -> Prediction:
        """Classify the video at `path`, a path or URI. Raises VideoRejected, with its reason, if it cannot be used."""
        row = self._classifier.classify(path)
        return Prediction(
            label=row["label"],
            verdict=row["verdict"],
            top_label=row["top_label"],
            confidence=row["confidence"],
            probabilities=dict(zip(self.classes, row["probabilities"], strict=True)),
            trust_score=row["trust_score"],
            ood_score=row["ood_score"],
            attention=tuple(row["attention"]),
            pts_s=tuple(row["pts_s"]),
        )

    def close(self) -> None:
        """End the child process that decodes. A later call of `classify` starts another one."""
        self._classifier.close()

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _configured(config_class: type[cli.Config], options: dict[str, Any]) -> cli.Config:
    """Configuration from keyword arguments, checked like flags. Raises ConfigError for an unknown or wrong one."""
    known = [field.name for field in fields(config_class)]
    check_known(options, known, lambda key: f"unknown option {key!r}")
    config = cli.configured(config_class, options)
    config.check_given(options)
    return config


@contextmanager
def _masked() -> Iterator[None]:
    """Mask passwords, signatures and tokens of URIs in what is printed in the `with` block, and in the message of an
    error that vidclf raises there."""
    try:
        with cli.masked_output(sys.stderr):
            yield
    except (ConfigError, RunStopped) as error:
        text = masked_text(str(error))
        if text != str(error):
            error.args = (text,)
            error.__cause__, error.__suppress_context__ = None, True  # their messages may hold the same location
        raise
