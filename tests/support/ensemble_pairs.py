"""Calibrations of two ensembles that share their held-out videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.support.ensembles import with_digest
from tests.support.split_records import COSINE, recorded, table
from vidclf.ensemble import calibration_file, split_record
from vidclf.ensemble.info import EnsembleInfo, read_info, write_info
from vidclf.uncertainty.early_exit import ValidationScores


def scores(trust: Sequence[float], correct: Sequence[bool], sources: Sequence[int] | None = None) -> ValidationScores:
    """Scores of held-out videos that are not out of distribution."""
    return ValidationScores(
        trust_B=np.array(trust, np.float32),
        correct_B=np.array(correct),
        ood_B=np.zeros(len(trust), np.float32),
        source_B=np.arange(len(trust)) if sources is None else np.array(sources),
    )


def recalibrate(directory: str, full: ValidationScores, rows: Sequence[dict[str, Any]], **values: Any) -> EnsembleInfo:
    """Give the ensemble in a directory other scores of its held-out videos, which `rows` of `splits.parquet` name.

    `values` replace fields of the trust in `ensemble.json`.
    """
    info = read_info(directory)
    trust = replace(calibration_file.read_trust(directory, info), full=dict.fromkeys(("plain", "tta"), full))
    split_record.write(directory, table(*rows))
    info = replace(info, splits=split_record.describe(directory, COSINE), trust=replace(info.trust, **values))
    info = with_digest(info, calibration_file.write_trust(directory, trust))
    write_info(directory, info)
    return info


def held_out(number: int) -> list[dict[str, Any]]:
    """Rows of `splits.parquet`: one train video, and this number of validation videos."""
    return [recorded("t", "train"), *(recorded(f"v{index}", "val") for index in range(number))]
