"""Scores of a classification against known labels, with confidence intervals.

Public names:

- `scores`: `evaluate`, `Metrics`, `ClassMetrics`, `expected_calibration_error`
- `curves`: `roc`, `reliability`, `risk_coverage`
- `intervals`: `SourceIntervals`, `F1Intervals`, `Interval`

Everything here is a pure function or a record, with numpy, scipy and scikit-learn. The package imports nothing else of
vidclf; no torch, no Ray.
"""
