#!/usr/bin/env bash
# scikit-learn 1.9.1: `log_loss` of the same probabilities depends on their type: 9.1 as float64,
# 4.1 as float32, 1.8 as float16.
#
# Expected: all three hold the same probabilities up to rounding, so that the loss is the same up to rounding.
# Seen: probabilities are first raised to the smallest step of their type, 1.2e-7 for float32 and 0.001 for float16. A video
# that is surely and wrongly classified costs 36.0, 15.9 or 6.9, however sure the model is. So the same model looks better
# if its probabilities are stored in less memory.
# What follows for vidclf: `probabilities` of a run are float32. Whoever compares models with `log_loss` must convert both
# columns to float64 first.
#
# Usage: findings/sklearn_log_loss_by_type.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys
import warnings

import numpy as np
from sklearn.metrics import log_loss

warnings.simplefilter("ignore")  # float16 does not sum to exactly one
# Three classes, four videos; the third is surely and wrongly classified.
true = [0, 1, 2, 2]
logits = np.array([[4.0, 0, 0], [0, 3.0, 0], [40.0, 0, 0], [0, 0, 2.0]])
exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
losses = {}
for kind in (np.float64, np.float32, np.float16):
    probabilities = exact.astype(kind)
    assert np.allclose(probabilities, exact, rtol=0, atol=5e-4)
    whole, worst = log_loss(true, probabilities), log_loss(true[2:3], probabilities[2:3], labels=[0, 1, 2])
    losses[kind.__name__] = round(whole, 1), round(worst, 1)
    again = log_loss(true, probabilities.astype(np.float64))
    print(f"{kind.__name__}: {whole:.3f}, of the wrong video {worst:.1f}; converted to float64 before: {again:.3f}")
print("by definition:", round(float(-np.log(exact[range(4), true]).mean()), 3))
is_as_seen = losses["float64"][1] > 30 and 15 < losses["float32"][1] < 17 and 6 < losses["float16"][1] < 8
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
