"""The model behind a server, in one Ray actor: the stages of a classification job, for a video at a time.
[Ray]

    path ─▶ decode (child process, deadline, memory cap) ─▶ CNN ▶ ensemble, trust ─▶ answer

The two halves are the batch job's own stages, so that a video gets here the probabilities that it gets there;
to the last bits in float32, and nearly in bfloat16, whose products of one video are rounded otherwise
than those of several.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vidclf import arrow, ray_cluster, schema, storage
from vidclf.archive.manifest import video_id
from vidclf.classification.compatibility import fitted_embeddings
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import ServeConfig
from vidclf.ensemble import files
from vidclf.ensemble import info as info_module
from vidclf.errors import ConfigError
from vidclf.pipeline.decode_stage import DecodeVideos, limits_from_flags
from vidclf.pipeline.embed_stage import EmbedVideos
from vidclf.pipeline.embedder import frames_of
from vidclf.pipeline.engines import put_engine_source
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.pipeline.sink import target_column
from vidclf.server.response import ResponseContext, answer, segment_length_s
from vidclf.tally import Tally
from vidclf.uncertainty.risk_threshold import RiskThreshold
from vidclf.uncertainty.trust_score import TrustScore
from vidclf.video.decoder_process import DecodeLimits

DEFAULT_GPU_SHARE = 0.25
"""Of a GPU, where there is one: the model takes a few GB and is idle most of the time."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What a server classifies with, checked but not loaded."""

    directory: str
    settings: HeadSettings
    target: RunSpec
    """without its head, which the actor makes"""
    trust_score: TrustScore
    threshold: RiskThreshold

    @property
    def classes(self) -> list[str]:
        return list(self.target.classes)


def served_model(config: ServeConfig) -> ServedModel:
    """The ensemble of `config` as a classification would use it.

    Raises ConfigError, as `classify` does, where this machine cannot make the features it was fitted on.
    """
    loaded = files.load(config.ensemble, torch.device("cpu"))
    info, mode = loaded.info, info_module.mode(config.tta)
    trust = loaded.trust
    found = trust.threshold(mode, config.abstain_risk, config.accept_uncertified)
    target = RunSpec(
        embeddings=tuple(fitted_embeddings(config, info)),
        output_schema=schema.predictions(len(info.classes)).append(schema.SIGNS_FIELD),
        ensemble_id=info.ensemble_id,
        classes=tuple(info.classes),
        segments_schema=schema.segments(len(info.classes)),
        sharpen_blurry=config.sharpen_blurry,
    )
    return ServedModel(
        directory=storage.canonical(config.ensemble),
        settings=HeadSettings(tta=config.tta, trust_threshold=found.threshold, segments_s=config.segments),
        target=target,
        trust_score=info.trust.score(config.tta),
        threshold=found,
    )


@dataclass(frozen=True, kw_only=True)
class ActorRefs:
    """What the actor is made of beside its settings: references that the server holds.

    They come with each call, since a restarted actor needs them again, and Ray does not promise to have kept
    the arguments of a constructor.
    """

    networks: dict[str, Any]
    """as in `EmbedVideos`"""
    tally: Any


class VideoClassifier:
    """The actor. `decode` and `classify` keep nothing of a video between them, so that Ray may call either
    again after a crash."""

    def __init__(self, model: ServedModel, limits: DecodeLimits, precision: str, num_gpus: float) -> None:
        self._model, self._limits, self._precision, self._num_gpus = model, limits, precision, num_gpus
        self._job = PipelineJob(targets=(replace(model.target, make_head=self._make_head),))
        self._head: EnsembleHead | None = None
        self._stages: tuple[DecodeVideos, EmbedVideos] | None = None

    def load(self, parts: ActorRefs) -> tuple[DecodeVideos, EmbedVideos]:
        """The two stages of a classification job, made at the first call."""
        if self._stages is None:
            plan, transforms = self._job.embeddings[0].spec.plan, self._job.transforms()
            self._stages = (
                DecodeVideos(plan, transforms, self._limits, parts.tally),
                EmbedVideos(self._job, parts.networks, self._precision, self._num_gpus, parts.tally),
            )
        return self._stages

    def _make_head(self, own_device: str) -> EnsembleHead:
        model = self._model
        self._head = EnsembleHead(
            model.directory, model.settings, own_device, precision=self._precision, shows_signs=True
        )
        return self._head

    def is_ready(self, parts: ActorRefs) -> bool:
        """Load, and say so."""
        self.load(parts)
        return True

    def decode(self, parts: ActorRefs, path: str, identity: str) -> pa.Table:
        """The video at `path` as a row of `schema.decoded`. `identity` is what a random sampling plan draws
        its numbers from: the URI in a classification job."""
        empty = {"label": None, "sublabel": None, "split": None, "size_bytes": None}
        row = {schema.VIDEO_ID: video_id(identity), "video_uri": path, "group": path, **empty}
        decode, _ = self.load(parts)
        (decoded,) = decode(pa.Table.from_pylist([row], schema=schema.MANIFEST))
        return decoded

    def classify(self, parts: ActorRefs, decoded: pa.Table) -> dict[str, Any]:
        """`{"answer": …}` or `{"rejected": reason}`."""
        reason = decoded["reject_reason"][0].as_py()
        if reason is not None:
            return {"rejected": reason}
        duration_s, num_frames = decoded["duration_s"][0].as_py(), decoded["num_frames"][0].as_py()
        length_s = self._model.settings.segments_s or segment_length_s(duration_s, num_frames)
        _, embed = self.load(parts)
        assert self._head is not None
        self._head.settings = replace(self._head.settings, segments_s=length_s)
        row = embed(decoded)[target_column(0)][0].as_py()
        # The first backbone's view of the frames, which is what there is to show.
        view = pa.Table.from_struct_array(arrow.combined(decoded[schema.frames_name(0)]))
        explained = ResponseContext(
            classes=self._model.classes,
            trust_score=self._model.trust_score,
            trust_threshold=self._model.threshold.threshold,
            segment_length_s=length_s,
        )
        side = self._job.transforms().transforms[0].crop_size
        return {"answer": answer(row, frames_of(view["frames"], side), explained)}


class ModelActor:
    """The actor as the server sees it."""

    def __init__(self, handle: Any, parts: ActorRefs) -> None:
        self.handle: Any | None = handle
        self._parts = parts

    def wait_until_ready(self) -> list[str]:
        """What there is to say of how it was loaded. Raises ConfigError where this machine cannot load it."""
        assert self.handle is not None
        try:
            ray.get(self.handle.is_ready.remote(self._parts))
        except ray.exceptions.RayError:
            if refusal := ray.get(self._parts.tally.refusal.remote()):
                raise ConfigError(refusal) from None
            raise
        said: list[str] = ray.get(self._parts.tally.news.remote())[1]
        return said

    def decode(self, path: str, identity: str, timeout_s: float) -> Any:
        """A reference to the decoded row, when that is there. TimeoutError after `timeout_s`, when the actor is started
        again for the next video."""
        assert self.handle is not None
        decoded = self.handle.decode.remote(self._parts, path, identity)
        ready, _ = ray.wait([decoded], fetch_local=False, timeout=timeout_s)
        if not ready:
            ray.kill(self.handle, no_restart=False)
            raise TimeoutError(f"no decoded video within {timeout_s:.0f} s")
        return decoded

    def classify(self, decoded: Any) -> dict[str, Any]:
        assert self.handle is not None
        outcome: dict[str, Any] = ray.get(self.handle.classify.remote(self._parts, decoded))
        return outcome

    def end(self) -> None:
        """End the actor, and let go of it now: Ray complains where a process ends with the news unsent."""
        ray.kill(self.handle)
        ray.kill(self._parts.tally)
        self.handle = None


def decode_limits(config: ServeConfig) -> DecodeLimits:
    """What decoding one video may cost a server."""
    return replace(
        limits_from_flags(config),
        # There is one worker, and other videos wait for it: a long video gets no extra time.
        timeout_per_video_s=0.0,
        stops_when_deleted=True,
        video_bytes=config.max_upload_bytes,
    )


@contextmanager
def started(config: ServeConfig, model: ServedModel) -> Iterator[ModelActor]:
    """The model in an actor on this machine, where the uploads are, being loaded; ended with the context.

    It reserves no CPU: a server waits most of the time, and must not starve on a cluster that a job
    fills. A crash of the actor costs a restart, and its video a second attempt. Raises ConfigError for a
    share of a GPU that this machine does not have.
    """
    ray_cluster.connect()
    node_id = ray.get_runtime_context().get_node_id()
    num_gpus_here = next(n["Resources"].get("GPU", 0.0) for n in ray.nodes() if n["NodeID"] == node_id)
    num_gpus = config.gpus if config.gpus is not None else (DEFAULT_GPU_SHARE if num_gpus_here else 0.0)
    if num_gpus > num_gpus_here:
        raise ConfigError(f"--gpus must be at most the {num_gpus_here:g} GPUs of this machine, got {num_gpus:g}")
    limits = decode_limits(config)
    options = {
        "num_cpus": 0,
        "num_gpus": num_gpus,
        "max_restarts": -1,
        "max_task_retries": 1,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        "runtime_env": {"env_vars": ray_cluster.CPU_WORKER_ENV} if not num_gpus else None,
    }
    tally = Tally.start()
    job = PipelineJob(targets=(model.target,))
    parts = ActorRefs(networks={e.spec.key: put_engine_source(e, num_gpus, tally) for e in job.embeddings}, tally=tally)
    bare = replace(model, target=job.without_states().targets[0])
    actor = ModelActor(
        ray.remote(VideoClassifier).options(**options).remote(bare, limits, config.precision, num_gpus), parts
    )
    try:
        yield actor
    finally:
        actor.end()
