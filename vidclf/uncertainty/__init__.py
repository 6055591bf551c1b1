"""Measures of how certain a prediction is, fitted on validation data.

Public names:

- `temperature`: `fit_temperature`, `tempered`; `focal_optimum`: `optimal_temperature`
- `trust_score`: `TrustScore`, `signs`, `disagreement`; `explanation`: `trust_parts`
- `ood` (out of distribution): `OodLine`, `FeatureSpace`, `fit_space`, `fit_line`, `is_out_of_distribution`
- `frame_agreement`: `FrameDiscriminant`, `frame_agreement`
- `risk_threshold`: `RiskThreshold`, `choose`, `is_accepted`, `risk_statement`, `threshold_text`
- `early_exit`: `ValidationScores`, `stage_thresholds`, `outcome`
- `folds`: `cross_fitted`, `group_folds`

Everything here is a pure function or a record of arrays, with numpy and scipy. The package imports `vidclf.schema` and
nothing else of vidclf; no torch, no Ray.
"""
