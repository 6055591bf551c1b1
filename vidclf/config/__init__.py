"""Configuration: one frozen dataclass per job, from which flags, YAML keys and `--help` are derived.

Import the classes from here. Imports `vidclf.errors` only.
"""

from vidclf.config.archive import AuditConfig, IndexConfig
from vidclf.config.classify import ClassifyConfig
from vidclf.config.extract import ExtractConfig, PipelineConfig, PlanConfig, QuantizeConfig
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
    "ExtractConfig",
    "FitConfig",
    "IndexConfig",
    "ModelConfig",
    "PipelineConfig",
    "PlanConfig",
    "QuantizeConfig",
    "SearchConfig",
    "ServeConfig",
    "TrainConfig",
    "TuneConfig",
]
