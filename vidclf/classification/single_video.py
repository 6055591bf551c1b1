"""Classification of one video at a time with a trained ensemble. Free of Ray.

    path ─▶ decode (child process, deadline, memory limit) ─▶ CNN ▶ ensemble, trust score ─▶ row of a prediction

Decoding and classifying are those of the `classify` job, so a video has the same probabilities here and there:
identical in float32, and nearly in bfloat16, where the products of one video are rounded differently from those of
several videos. The server (`vidclf/server/model_actor.py`) and the Python API (`vidclf/api.py`) share this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from vidclf import schema, storage
from vidclf.archive.manifest import video_id
from vidclf.backbones.engine import Engine
from vidclf.backbones.openvino_cache import cached
from vidclf.classification.compatibility import fitted_embeddings
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import PredictConfig, ServeConfig
from vidclf.ensemble import info as info_module
from vidclf.ensemble.checked import read_checked
from vidclf.ensemble.held_out import used_contents
from vidclf.ensemble.known_sources import caveat_of
from vidclf.ensemble.split_record import SPLITS_FILE, read_record
from vidclf.pipeline.decode_stage import DecodeVideos, limits_from_flags
from vidclf.pipeline.engines import conversion_source, converted_or_state, described, load_engine, state_of
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.pipeline.video_embedder import VideoEmbedder
from vidclf.schema import RejectReason
from vidclf.uncertainty import sublabel_threshold
from vidclf.uncertainty.risk_threshold import RiskThreshold, threshold_text
from vidclf.uncertainty.trust_score import TrustScore
from vidclf.video.rejection import VideoRejected


@dataclass(frozen=True, kw_only=True)
class VideoModel:
    """An ensemble with its settings, after all checks, but not loaded yet."""

    directory: str
    settings: HeadSettings
    target: RunSpec
    """columns and backbones of the predictions; without the ensemble itself, which `job` adds"""
    taxonomy: dict[str, list[str]]
    """sublabels by class; empty if the ensemble predicts none"""
    trust_score: TrustScore
    threshold: RiskThreshold
    caveat: str
    """sentence about the videos for which the risk does not hold; empty if there are none"""
    used_contents: dict[str, str]
    """split train or val by content digest, of the videos that training and validation used; empty without a record,
    or unless predictions are to be explained"""

    @property
    def classes(self) -> list[str]:
        return list(self.target.classes)

    def job(self, make_head: Callable[[str], EnsembleHead]) -> PipelineJob:
        """Description of the computation for the CNN stage; `make_head` makes the ensemble on a device."""
        return PipelineJob(targets=(replace(self.target, make_head=make_head),))

    def head(self, device: str, precision: str, *, shows_signs: bool) -> EnsembleHead:
        """Load the ensemble onto `device`, with the settings of this object."""
        return EnsembleHead(self.directory, self.settings, device, precision=precision, shows_signs=shows_signs)


def video_model(
    config: PredictConfig | ServeConfig, *, segments_s: float | None = None, is_explained: bool = False
) -> VideoModel:
    """The ensemble of `config` with the settings that a classification job would use, ready to be loaded.

    `segments_s`: length in seconds of the parts of a video that are classified separately. With `is_explained`, rows
    also have the signs behind the trust score and segments, and the model names the videos of its training.

    Raises ConfigError, like the `classify` job, if this machine cannot make the features that the ensemble was fitted
    on.
    """
    info, trust = read_checked(config.ensemble)
    num_classes = len(info.classes)
    found = trust.threshold(info_module.mode(config.tta), config.abstain_risk, config.accept_uncertified)
    sets = trust.set_thresholds(info_module.mode(config.tta), num_classes, config.coverage)
    fine_sets = trust.sublabel_set_thresholds(info_module.mode(config.tta), info.hierarchy, config.coverage)
    if sets is not None:
        print(sets.text(info.classes), file=sys.stderr)
    if fine_sets is not None:
        print(fine_sets.text(), file=sys.stderr)
    sublabels = trust.sublabel_threshold(
        info_module.mode(config.tta), found, config.abstain_risk, config.accept_uncertified
    )
    if sublabels is not None:
        print(sublabel_threshold.text(sublabels, config.abstain_risk), file=sys.stderr)
    columns = schema.predictions(num_classes)
    target = RunSpec(
        embeddings=tuple(fitted_embeddings(config, info)),
        output_schema=columns.append(schema.SIGNS_FIELD) if is_explained else columns,
        ensemble_id=info.ensemble_id,
        classes=tuple(info.classes),
        segments_schema=schema.segments(num_classes) if is_explained else None,
        sharpen_blurry=config.sharpen_blurry,
    )
    return VideoModel(
        directory=storage.canonical(config.ensemble),
        settings=HeadSettings(
            tta=config.tta,
            trust_threshold=found.threshold,
            segments_s=segments_s,
            set_thresholds=sets.lowest_C if sets is not None else None,
            sublabel_set_thresholds=fine_sets.lowest_N if fine_sets is not None else None,
            sublabel_threshold=sublabels.threshold if sublabels is not None else None,
        ),
        target=target,
        taxonomy=info.taxonomy,
        trust_score=info.trust.score(config.tta),
        threshold=found,
        caveat=caveat_of(info.training),
        used_contents=_used_contents(config.ensemble) if is_explained else {},
    )


def _used_contents(directory: str) -> dict[str, str]:
    """`held_out.used_contents` of the ensemble in a directory; empty if `splits.parquet` was not copied to the server.

    Raises ConfigError if the file is not the one that `ensemble.json` lists.
    """
    if not storage.exists(storage.join(directory, SPLITS_FILE)):
        return {}
    return used_contents(read_record(directory))


def decoded_row(decode: DecodeVideos, path: str, identity: str) -> pa.Table:
    """Decode the video at `path` with the decode stage: a table with one row of `schema.decoded`.

    `identity` seeds a random sampling plan. In a classification job it is the video's URI.
    """
    empty = {"label": None, "sublabel": None, "split": None, "size_bytes": None}
    row = {schema.VIDEO_ID: video_id(identity), "video_uri": path, "group": path, **empty}
    (decoded,) = decode(pa.Table.from_pylist([row], schema=schema.MANIFEST))
    return decoded


def check_decoded(decoded: pa.Table) -> None:
    """Raise VideoRejected if a table with one row of `schema.decoded` is that of a rejected video."""
    reason = decoded["reject_reason"][0].as_py()
    if reason is not None:
        raise VideoRejected(RejectReason(reason), decoded["reject_message"][0].as_py())


def prediction_row(embedder: VideoEmbedder, decoded: pa.Table) -> dict[str, Any]:
    """Classify a decoded video, a table with one row of `schema.decoded`. Returns its prediction by column name.

    `embedder`: the loaded CNNs and ensemble of a `VideoModel.job`. Raises VideoRejected if the video was rejected in
    decoding, or if its features are not finite.
    """
    check_decoded(decoded)
    (rows,) = embedder.rows(decoded.drop_columns(schema.CARRIED))
    for message in embedder.take_not_finite().values():
        raise VideoRejected(RejectReason.FEATURES_NOT_FINITE, message)
    row: dict[str, Any] = rows.to_pylist()[0]
    return row


class VideoClassifier:
    """A loaded ensemble with its CNNs and a decoder process, for one video at a time on the CPU of this process."""

    def __init__(self, config: PredictConfig) -> None:
        """Load the ensemble and its CNNs. Raises ConfigError if this machine cannot make the ensemble's features."""
        with one_torch_thread():
            model = video_model(config)
            print(threshold_text(model.threshold, config.abstain_risk, model.caveat), file=sys.stderr)

            def make_head(device: str) -> EnsembleHead:
                return model.head(device, config.precision, shows_signs=False)

            def engine_of(setup: BackboneSetup) -> Engine:
                network = cached(conversion_source(setup.spec)) or converted_or_state(
                    setup.spec, described(setup), state_of(setup), _print_message
                )
                return load_engine(network, described(setup), "cpu", config.precision)

            job = model.job(make_head)
            self.model = model
            self._embedder = VideoEmbedder(job)
            self._embedder.load_models("cpu", engine_of)
            self._decode = DecodeVideos(job.plan, job.transforms(), limits_from_flags(config), tally=None)

    def classify(self, path: str) -> dict[str, Any]:
        """The prediction of the video at `path` (a path or URI), by column of `schema.predictions`.

        Raises VideoRejected if the video cannot be used. Not for several threads at the same time.
        """
        location = storage.canonical(path)
        with one_torch_thread():
            decoded = decoded_row(self._decode, location, location)
            return prediction_row(self._embedder, decoded)

    def close(self) -> None:
        """End the decoder process."""
        self._decode.close()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute in one thread, as the workers of a job do, and restore the number of threads afterwards."""
    import torch  # imported here, because a server's process checks the ensemble without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print_message(text: str) -> None:
    print(text, file=sys.stderr)
