"""Certified trust thresholds compared with those of MAPIE, an independent library for risk control.

    pip install mapie
    python benchmarks/risk_mapie.py [--draws 200] [--risk 0.05]

Both choose the lowest trust score at which a label is accepted, such that the share of wrong labels among accepted
videos stays below the risk with a confidence of `CONFIDENCE_LEVEL`. MAPIE's `BinaryClassificationController` controls
the precision of the decision "the label is right" by fixed sequence testing, with Hoeffding-Bentkus p-values
(Angelopoulos et al. 2021, arXiv:2110.01052). It knows no sources (recordings): each video counts. Its sequence begins
at the threshold at which that of vidclf begins: the highest one that could be certified with one wrong source.

The worlds are those of `risk_simulation.py`. The output is a table with one row per world and number of sources:

- same: share of the draws in which both choose the same threshold, or both none;
- certified, failures: share of the draws with a threshold, and of those with a threshold whose true error is above the
  risk. At most the share 1 - `CONFIDENCE_LEVEL` should be failures.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from mapie.risk_control import BinaryClassificationController

from benchmarks.machine import describe
from benchmarks.risk_simulation import NUM_TRUTH, World, full_look, seeded
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.risk_threshold import CERTIFIED, CONFIDENCE_LEVEL, THRESHOLDS, Acceptance

WORLDS = [
    World(name="one video per source", correlation=0.0, sizes=(1,)),
    World(name="one video per source, flat", correlation=0.0, sizes=(1,), is_flat=True),
    World(name="10 per source, correlation 0.5", correlation=0.5),
    World(name="10 per source, correlation 0.9", correlation=0.9),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200, help="simulated validation splits per row")
    parser.add_argument("--risk", type=float, default=0.05, help="allowed share of wrong labels among accepted videos")
    parser.add_argument("--sources", default="100,300", help="numbers of sources per split, separated by commas")
    arguments = parser.parse_args()
    print(describe("mapie", "numpy", "scipy"), f"\n{arguments.draws} draws per row, risk {arguments.risk:g}\n")
    print("| world | sources | same | vidclf: certified | vidclf: failures | MAPIE: certified | MAPIE: failures |")
    print("|---|---|---|---|---|---|---|")
    for world in WORLDS:
        truth = full_look(world.draw(NUM_TRUTH // max(world.sizes), arguments.risk, seeded(0))[Look.FULL])
        for num_sources in map(int, arguments.sources.split(",")):
            pairs = []
            for number in range(arguments.draws):
                validation = world.draw(num_sources, arguments.risk, seeded(number + 1))[Look.FULL]
                ours = validation.threshold(arguments.risk)
                pairs.append((ours.threshold if ours.basis == CERTIFIED else None, mapie(validation, arguments.risk)))
            cells = [f"{np.mean([ours == theirs for ours, theirs in pairs]):.3f}"]
            for thresholds in zip(*pairs, strict=True):
                found = [threshold for threshold in thresholds if threshold is not None]
                fails = [truth(threshold)[0] > arguments.risk for threshold in found]
                cells += [f"{len(found) / len(pairs):.3f}", f"{sum(fails) / len(pairs):.3f}"]
            print(f"| {world.name} | {num_sources} | {' | '.join(cells)} |", flush=True)


def mapie(validation: ValidationScores, risk: float) -> float | None:
    """Lowest trust threshold that MAPIE certifies; None if there is none."""
    candidates: list[float] = []
    for threshold in THRESHOLDS[::-1].tolist():
        accepted_B = validation.accepts(threshold)
        acceptance = Acceptance.of(threshold, accepted_B, validation.correct_B, validation.source_B)
        if candidates or acceptance.certifies(risk, 1 - CONFIDENCE_LEVEL, num_wrong=1):
            candidates.append(threshold)
    if not candidates:
        return None
    controller = BinaryClassificationController(
        lambda trust_B1: np.concatenate([1 - trust_B1, trust_B1], axis=1),
        risk="precision",
        target_level=1 - risk,
        confidence_level=CONFIDENCE_LEVEL,
        list_predict_params=np.array(candidates),
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        # It warns if it finds no threshold, and if the error does not rise with every step.
        warnings.simplefilter("ignore")
        controller.calibrate(validation.trust_B[:, None], validation.correct_B.astype(int))
    valid = np.ravel(np.array(controller.valid_predict_params, dtype=float))
    return float(valid.min()) if len(valid) else None


if __name__ == "__main__":
    main()
