"""Bulk classification: the extraction pipeline with the ensemble as its head, or a run of features with
the head alone. [Ray Data]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from ray.data import ActorPoolStrategy

from vidclf import cluster, events, ledger, reconcile, schema, storage
from vidclf.config import ClassifyConfig, ConfigError, PipelineConfig, ServeConfig
from vidclf.features import backbone, quantized
from vidclf.features.beside import FeatureLookup
from vidclf.features.extract import checkpointed_context, embed_videos, pool_sizes, write
from vidclf.features.monitoring import PipelineMetrics
from vidclf.features.run import Embedding, EmbeddingJob, Performance, Target, counted
from vidclf.features.sink import target_column, written_columns
from vidclf.features.store import FeatureSpec, read_weights_location
from vidclf.learning import ensemble
from vidclf.learning.ensemble import EnsembleInfo
from vidclf.learning.trust import CONFIDENCE_LEVEL, RiskThreshold, videos_to_certify
from vidclf.ledger import RunState
from vidclf.prediction.fitted import fitted_runs
from vidclf.prediction.head import EnsembleHead, HeadSettings
from vidclf.prediction.progressive import Passes, classify_in_passes

VIDEOS_PER_BATCH = 64
"""Rows that the head takes at a time from a run of features: 12 MB of them."""

QUARANTINE_FILE = "part-features.parquet"
"""The quarantine of a run of features, taken over."""


def classify(config: ClassifyConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Classify every video of `manifest` into `config.output`; as `embed_videos`, None after a dry run.

    Raises ConfigError before any work starts where the ensemble was fitted on features that this
    cluster cannot make (another backbone, other weights, another decoder), or other than those that
    are to be classified.
    """
    # Loading checks every member's digest and sizes here, once, rather than in each worker.
    loaded = ensemble.load(config.ensemble, torch.device("cpu"))
    info, trust = loaded.info, loaded.trust
    mode = ensemble.mode(config.tta)
    found = trust.threshold(mode, config.abstain_risk)
    settings = HeadSettings(tta=config.tta, trust_threshold=found.threshold, segments_s=config.segments)
    if config.features:
        runs = fitted_runs([storage.canonical(run) for run in config.features], info)
        embeddings = [
            Embedding(spec=fitted.feature_spec, weights=read_weights_location(run), state={})
            for fitted, run in zip(info.backbones, runs, strict=True)
        ]
    else:
        runs, embeddings = [], fitted_embeddings(config, info)
    print(threshold_text(found, config.abstain_risk), file=sys.stderr)
    target_of = partial(prediction_target, config, info)
    predictions = target_of(settings, embeddings)
    if config.progressive:
        passes = Passes.plan(loaded, settings, config.abstain_risk, predictions, target_of)
        return classify_in_passes(config, manifest, passes)
    if runs:
        pipeline = partial(_run_over_features, runs)
        return embed_videos(config, manifest, EmbeddingJob(targets=(predictions,)), pipeline)
    targets = [predictions]
    if config.save_features is not None:
        saved = storage.canonical(config.save_features)
        targets += [
            Target(
                embeddings=(embedding,),
                output_schema=schema.features(embedding.spec.feature_dim),
                directory=storage.join(saved, embedding.spec.backbone) if len(embeddings) > 1 else saved,
            )
            for embedding in embeddings
        ]
    return embed_videos(config, manifest, EmbeddingJob(targets=tuple(targets)))


def prediction_target(
    config: ClassifyConfig, info: EnsembleInfo, settings: HeadSettings, embeddings: Sequence[Embedding]
) -> Target:
    """A run of predictions by an ensemble, from the features of `embeddings`."""
    return Target(
        embeddings=tuple(embeddings),
        output_schema=schema.predictions(len(info.classes)),
        make_head=partial(EnsembleHead, storage.canonical(config.ensemble), settings, precision=config.precision),
        ensemble_id=info.ensemble_id,
        classes=tuple(info.classes),
        settings={**asdict(settings), "abstain_risk": config.abstain_risk, "sharpen_blurry": config.sharpen_blurry},
        segments_schema=schema.segments(len(info.classes)) if config.segments is not None else None,
        sharpen_blurry=config.sharpen_blurry,
    )


def threshold_text(found: RiskThreshold, risk: float) -> str:
    """What comes of `--abstain-risk`, in one line."""
    on_validation = f"{found.num_accepted} of {found.num_videos} validation videos, {found.num_errors} of them wrong"
    start = f"accepting trust scores from {found.threshold:.2f} ({on_validation})"
    if found.basis == "certified":
        return f"{start}: an error of at most {risk:g} with confidence {CONFIDENCE_LEVEL:g}"
    needed = videos_to_certify(risk)
    if found.basis == "estimated":
        return (
            f"{start}: an estimated error of {found.estimate:.3f}; to certify --abstain-risk {risk:g} takes {needed} "
            "accepted validation videos or more, and few errors"
        )
    return (
        f"{start}: validation cannot support --abstain-risk {risk:g}, which takes {needed} videos or more and few "
        f"errors; the estimated error is {found.estimate:.3f}, the least that it can vouch for"
    )


def _run_over_features(
    features: Sequence[str], config: PipelineConfig, job: EmbeddingJob, before: RunState
) -> Performance:
    """The whole graph over rows that are embedded already, in a run for each backbone."""
    resources = cluster.connect()
    pools = pool_sizes(config, resources)
    (target,) = job.targets
    run = target.run(config.output)
    asked = ledger.asked_ids(run)
    _take_over_quarantine(features[0], run, asked)
    left = ledger.one_array([storage.read_table(reconcile.to_read(config.output, [run]), [schema.VIDEO_ID])])
    tally = cluster.Tally.start(partial(PipelineMetrics, config.output))
    checkpointed_context(config.output)

    # 1. The shards of the first run: 1 row a video.
    paths = [storage.resolve(path)[1] for path in ledger.part_files(features[0])]
    if not paths:
        return Performance(busy={})
    videos = ray.data.read_parquet(paths, filesystem=storage.resolve(features[0])[0], num_cpus=0)
    # 2. The head: 1 row out per row in, of those that are left to do. As the CNN's workers. A worker reads
    #    the same videos' rows in the other runs by itself, since these may lie in other shards.
    others = [FeatureLookup(ledger.part_files(run)) for run in features[1:]]
    videos = videos.map_batches(
        ClassifyFeatures,
        fn_constructor_kwargs={
            "target": target,
            "others": [ray.put(others)],
            "asked": [ray.put(left)],
            "tally": tally,
            "logs_events": config.json_logs,
        },
        batch_size=VIDEOS_PER_BATCH,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=pools.embedding_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pools.cnn_cpus,
        num_gpus=pools.cnn_gpus,
        runtime_env={"env_vars": cluster.CPU_WORKER_ENV} if pools.cnn_gpus == 0 else None,
    )
    # 3. Write, as the extraction pipeline.
    elapsed_s, counts = write(config, job, before, videos, tally)
    head_s = counts.get("cnn_s", 0.0)
    return Performance(
        busy={"head": head_s / (elapsed_s * pools.embedding_workers)},
        worker_s={"head": head_s},
        head_engines=counted(counts, "head_engine"),
    )


class ClassifyFeatures:
    """Stage 2. In: `schema.features`. Out: `written_columns`."""

    def __init__(
        self, target: Target, others: list[Any], asked: list[Any], tally: Any, logs_events: bool = False
    ) -> None:
        assert target.make_head is not None
        self._head = target.make_head()
        tally.add.remote({f"head_engine:{self._head.engine}": 1})
        self._target = target
        # In lists, so that Ray hands over the references.
        self._others: list[FeatureLookup] = ray.get(others[0])
        self._asked = ray.get(asked[0])
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema])

    def __call__(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        batch = batch.filter(pc.is_in(batch[schema.VIDEO_ID], self._asked))
        if not batch.num_rows:
            return self._columns.empty_table()
        batch = schema.conform(batch, schema.features(self._target.specs[0].feature_dim), "features")
        ids = batch[schema.VIDEO_ID].combine_chunks()
        rows = self._head([batch, *(lookup(ids) for lookup in self._others)])
        rows = schema.conform(rows, self._target.row_schema, "output")
        columns = {name: batch[name] for name in (schema.VIDEO_ID, "video_uri")}
        columns[target_column(0)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
        for name in ("reject_reason", "reject_message"):
            columns[name] = pa.nulls(batch.num_rows, pa.string())
        taken_s = time.perf_counter() - started
        self._tally.add.remote({"done": batch.num_rows, "ok": batch.num_rows, "cnn_s": taken_s})
        if self._logs_events:
            for video_id in batch[schema.VIDEO_ID].to_pylist():
                events.write("head", video_id, taken_s / batch.num_rows, "ok")
        return pa.table(columns).select(self._columns.names).cast(self._columns)


def _take_over_quarantine(features: str, run: str, asked: pa.Array) -> None:
    """Videos that have no features for a reason have no prediction for the same reason."""
    tables = list(storage.iter_tables(ledger.quarantine_files(features), schema.QUARANTINE.names))
    rows = pa.concat_tables(tables or [schema.QUARANTINE.empty_table()]).cast(schema.QUARANTINE)
    rows = rows.filter(pc.is_in(rows[schema.VIDEO_ID], asked))
    if rows.num_rows:
        storage.publish_table(storage.join(run, ledger.QUARANTINE_DIR, QUARANTINE_FILE), rows)


def fitted_embeddings(config: ClassifyConfig | ServeConfig, info: EnsembleInfo) -> list[Embedding]:
    """The ensemble's backbones with their weights, refused unless the features would be the fitted ones."""
    names = info.backbone_names
    if config.backbone and list(config.backbone) != names:
        raise ConfigError(
            f"--backbone must be {','.join(names)}, which the ensemble was fitted on, got {','.join(config.backbone)!r}"
        )
    if len(config.weights) not in (0, len(names)):
        raise ConfigError(
            f"--weights must be one for each of the ensemble's backbones ({', '.join(names)}), "
            f"got {','.join(config.weights)!r}"
        )
    found = []
    locations = config.weights or tuple(fitted.weights for fitted in info.backbones)
    for fitted, weights in zip(info.backbones, locations, strict=True):
        spec, state = fitted.feature_spec, backbone.load_weights(fitted.name, weights)
        quantized.check_precision(state, weights, config.precision)
        ours = FeatureSpec.of(fitted.name, weights, backbone.weights_digest(state), spec.plan, spec.repeat_tolerance)
        if ours.key != spec.key:
            raise ConfigError(
                f"--ensemble {config.ensemble}: was fitted on features of key {spec.key}, this cluster makes "
                f"{ours.key} ({spec.differences(ours)}); give --weights, match the versions, or train again"
            )
        found.append(Embedding(spec=spec, weights=weights, state=state))
    return found
