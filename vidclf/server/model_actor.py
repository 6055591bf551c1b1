"""The server's model in one Ray actor (remote process): classifies one video at a time. [Ray]

    path ─▶ decode (child process, deadline, memory limit) ─▶ CNN ▶ ensemble, trust score ─▶ answer

`vidclf/classification/single_video.py` decodes and classifies; this module adds the Ray actor, segments and the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vidclf import arrow, ray_cluster, schema
from vidclf.classification.head import EnsembleHead
from vidclf.classification.single_video import (
    VideoModel,
    check_decoded,
    decoded_row,
    prediction_row,
    video_model,
)
from vidclf.config import ServeConfig
from vidclf.errors import ConfigError
from vidclf.pipeline.decode_stage import DecodeVideos, limits_from_flags
from vidclf.pipeline.embed_stage import EmbedVideos
from vidclf.pipeline.embedder import frames_of
from vidclf.pipeline.engines import put_engine_source
from vidclf.pipeline.job import PipelineJob
from vidclf.server.response import ResponseContext, answer, segment_length_s
from vidclf.tally import Tally
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.rejection import VideoRejected

DEFAULT_GPU_SHARE = 0.25
"""Share of a GPU that the actor reserves by default: the model takes a few GB and is idle most of the time."""


def served_model(config: ServeConfig) -> VideoModel:
    """The ensemble of `config` with the settings that a classification job would use, ready to be loaded.

    Raises ConfigError, like `classify`, if this machine cannot make the features that the ensemble was fitted on.
    """
    return video_model(config, segments_s=config.segments, is_explained=True)


@dataclass(frozen=True, kw_only=True)
class ActorRefs:
    """Ray references that the actor with the model needs for every call. The server owns them.

    Each call passes them. A restarted actor needs them again, and Ray does not guarantee to keep the arguments of a
    constructor.
    """

    networks: dict[str, Any]
    """references to what `EmbedVideos` builds its CNNs from, by feature key (digest of the features' settings)"""
    tally: Any
    """counter actor to which the workers report"""


class ServedClassifier:
    """Class of the Ray actor that runs the model: decodes and classifies one video.

    It keeps no state of a video, so that Ray may call a method again after a crash.
    """

    def __init__(self, model: VideoModel, limits: DecodeLimits, precision: str, num_gpus: float) -> None:
        self._model, self._limits, self._precision, self._num_gpus = model, limits, precision, num_gpus
        self._job = model.job(self._make_head)
        self._head: EnsembleHead | None = None
        self._stages: tuple[DecodeVideos, EmbedVideos] | None = None

    def load(self, parts: ActorRefs) -> tuple[DecodeVideos, EmbedVideos]:
        """Load the model at the first call. Returns the decoding step and the CNN step of a classification job."""
        if self._stages is None:
            plan, transforms = self._job.embeddings[0].spec.plan, self._job.transforms()
            self._stages = (
                DecodeVideos(plan, transforms, self._limits, parts.tally),
                EmbedVideos(self._job, parts.networks, self._precision, self._num_gpus, parts.tally),
            )
        return self._stages

    def _make_head(self, device: str) -> EnsembleHead:
        self._head = self._model.head(device, self._precision, shows_signs=True)
        return self._head

    def is_ready(self, parts: ActorRefs) -> bool:
        """Load the model and return True."""
        self.load(parts)
        return True

    def decode(self, parts: ActorRefs, path: str, identity: str) -> pa.Table:
        """Decode the video at `path`: a table with one row of `schema.decoded`.

        `identity` seeds a random sampling plan. In a classification job it is the video's URI.
        """
        decode, _ = self.load(parts)
        return decoded_row(decode, path, identity)

    def classify(self, parts: ActorRefs, decoded: pa.Table) -> dict[str, Any]:
        """Classify a decoded video, a table with one row of `schema.decoded`.

        Returns `{"answer": …}`, or `{"rejected": reason}` if the video could not be decoded.
        """
        try:
            check_decoded(decoded)  # only a decoded video has a duration
            duration_s, num_frames = decoded["duration_s"][0].as_py(), decoded["num_frames"][0].as_py()
            length_s = self._model.settings.segments_s or segment_length_s(duration_s, num_frames)
            _, embed = self.load(parts)
            assert self._head is not None
            self._head.settings = replace(self._head.settings, segments_s=length_s)
            row = prediction_row(embed, decoded)
        except VideoRejected as rejected:
            return {"rejected": rejected.reason.value}
        # The answer shows the frames of the first backbone.
        frames = pa.Table.from_struct_array(arrow.combined(decoded[schema.frames_name(0)]))
        context = ResponseContext(
            classes=self._model.classes,
            taxonomy=self._model.taxonomy,
            trust_score=self._model.trust_score,
            trust_threshold=self._model.threshold.threshold,
            risk_basis=self._model.threshold.basis,
            segment_length_s=length_s,
            used_contents=self._model.used_contents,
        )
        side = self._job.transforms().transforms[0].crop_size
        return {"answer": answer(row, frames_of(frames["frames"], side), context)}


class ModelActor:
    """The server's handle on the Ray actor that runs the model."""

    def __init__(self, handle: Any, parts: ActorRefs) -> None:
        self.handle: Any | None = handle
        self._parts = parts

    def wait_until_ready(self) -> list[str]:
        """Wait until the model is loaded, and return messages about it for the log.

        Raises ConfigError if this machine cannot load the model.
        """
        assert self.handle is not None
        try:
            ray.get(self.handle.is_ready.remote(self._parts))
        except ray.exceptions.RayError:
            if refusal := ray.get(self._parts.tally.refusal.remote()):
                raise ConfigError(refusal) from None
            raise
        messages: list[str] = ray.get(self._parts.tally.news.remote())[1]
        return messages

    def decode(self, path: str, identity: str, timeout_s: float) -> Any:
        """Let the actor decode the video at `path`, and return a Ray reference to the decoded row.

        After `timeout_s` seconds, restarts the actor for the next video and raises TimeoutError.
        """
        assert self.handle is not None
        decoded = self.handle.decode.remote(self._parts, path, identity)
        ready, _ = ray.wait([decoded], fetch_local=False, timeout=timeout_s)
        if not ready:
            ray.kill(self.handle, no_restart=False)
            raise TimeoutError(f"no decoded video within {timeout_s:.0f} s")
        return decoded

    def classify(self, decoded: Any) -> dict[str, Any]:
        """Classify a video, given the Ray reference to its decoded row.

        Returns the dict of `ServedClassifier.classify`.
        """
        assert self.handle is not None
        outcome: dict[str, Any] = ray.get(self.handle.classify.remote(self._parts, decoded))
        return outcome

    def end(self) -> None:
        """End the actor and drop the reference to it now.

        Ray complains if a process ends before it could report the end of an actor.
        """
        ray.kill(self.handle)
        ray.kill(self._parts.tally)
        self.handle = None


def decode_limits(config: ServeConfig) -> DecodeLimits:
    """Limits on time and memory for decoding one video in a server."""
    return replace(
        limits_from_flags(config),
        # Other videos wait for the only worker, so a long video gets no extra time.
        timeout_per_video_s=0.0,
        stops_when_deleted=True,
        video_bytes=config.max_upload_bytes,
    )


@contextmanager
def started(config: ServeConfig, model: VideoModel) -> Iterator[ModelActor]:
    """Context with the model's Ray actor on this machine, where the uploads are. The actor ends with the context.

    The actor is still loading when the context begins. It reserves no CPU: a server waits most of the time, and must
    not starve on a cluster that a job fills. After a crash the actor is started again, and its video is tried a second
    time. Raises ConfigError for a share of a GPU that this machine does not have.
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
        ray.remote(ServedClassifier).options(**options).remote(bare, limits, config.precision, num_gpus), parts
    )
    try:
        yield actor
    finally:
        actor.end()
