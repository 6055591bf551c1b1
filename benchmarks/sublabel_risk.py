"""How often the certified errors of classes and sublabels exceed the risk, in simulated calibrations.

    python benchmarks/sublabel_risk.py [--repeats 1000] [--risk 0.15] [--sources 400]

The simulated videos are those of `tests/support/sublabel_world.py`: classes are trusted too much, and sublabels too
little. Each repeat draws a calibration of `--sources` sources with one video each, and chooses both thresholds. Three
errors may be certified: among accepted classes (1), among answered sublabels (2), and among all answers at their levels
(3). The table has the shares of the repeats in which each is certified, and in which it is certified although the true
error, that of 200,000 videos, is above the risk.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.machine import describe
from tests.support.sublabel_world import certified_errors, drawn

NUM_TRUTH = 200_000
"""Number of videos from which the true errors are computed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="number of simulated calibrations")
    parser.add_argument("--risk", type=float, default=0.15, help="allowed error")
    parser.add_argument("--sources", type=int, default=400, help="number of sources of each calibration")
    arguments = parser.parse_args()
    population, generator = drawn(np.random.default_rng(99), NUM_TRUTH), np.random.default_rng(0)
    num_certified, num_false = np.zeros(4, int), np.zeros(4, int)
    for _ in range(arguments.repeats):
        errors = certified_errors(drawn(generator, arguments.sources), population, arguments.risk)
        is_certified = [error is not None for error in errors]
        is_false = [error is not None and error > arguments.risk for error in errors]
        num_certified += [*is_certified, any(is_certified)]
        num_false += [*is_false, any(is_false)]
    print(describe("numpy", "scipy"), f"\n{arguments.repeats} repeats, risk {arguments.risk:g}\n")
    print("| error among | certified | certified and above the risk |\n|---|---|---|")
    names = ("accepted classes (1)", "answered sublabels (2)", "all answers (3)", "any of them")
    for name, certified, false in zip(names, num_certified, num_false, strict=True):
        print(f"| {name} | {certified / arguments.repeats:.3f} | {false / arguments.repeats:.3f} |")


if __name__ == "__main__":
    main()
