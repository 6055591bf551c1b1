"""Configuration of the jobs: one frozen dataclass per program in `jobs/`.

The flags, the YAML keys and the `--help` page of a job are derived from its dataclass.

Import the configuration classes from this package; the helpers for fields (`require`, `parse_fractions`, `convert`)
from `vidclf.config.fields`. `vidclf.config.options` holds the options that several jobs share.
Modules here may import `vidclf.errors` and `vidclf.schema`, but neither torch nor Ray, so that `--help` is fast.
"""

from vidclf.config.archive import AuditConfig, IndexConfig
from vidclf.config.classify import ClassifyConfig
from vidclf.config.export import ExportConfig
from vidclf.config.extract import ExtractConfig, PipelineConfig, PlanConfig, QuantizeConfig
from vidclf.config.predict import PredictConfig
from vidclf.config.report import DiffConfig, EvaluateConfig
from vidclf.config.serve import ServeConfig
from vidclf.config.train import RECIPES, FitConfig, ModelConfig, TrainConfig
from vidclf.config.tune import SearchConfig, TuneConfig

__all__ = [
    "RECIPES",
    "AuditConfig",
    "ClassifyConfig",
    "DiffConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExtractConfig",
    "FitConfig",
    "IndexConfig",
    "ModelConfig",
    "PipelineConfig",
    "PlanConfig",
    "PredictConfig",
    "QuantizeConfig",
    "SearchConfig",
    "ServeConfig",
    "TrainConfig",
    "TuneConfig",
]
