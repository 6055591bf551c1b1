"""Configuration of classifying single videos from Python."""

from __future__ import annotations

from dataclasses import dataclass

from vidclf.config.options import DecisionOptions, DecodeLimitsOptions, EnsembleOptions, PrecisionOptions


@dataclass(frozen=True, kw_only=True)
class PredictConfig(DecisionOptions, EnsembleOptions, PrecisionOptions, DecodeLimitsOptions):
    """Classify single videos in this process, with a trained ensemble."""
