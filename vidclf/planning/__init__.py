"""Capacity planning: from seconds per video, measured on a sample, to workers, hours, machines and prices.

Names for other packages:

- `plan.plan`: the `plan` job. Returns the text to print and writes the file given by `--write`.
- `measure.measure`, `measure.SampleMeasurement`: decoding and CNN times of a sample on this machine.
- `sizing`: `Cost`, `Pools`, `Machine`, `Mix`, and pure functions between them. Free of Ray and torch.

May import: `pipeline` (its stages, to measure them), `backbones`, `archive`, `runs` and everything below them. Never:
`uncertainty`, `ensemble`, `training`, `classification`. Import from the modules: this file imports nothing.
"""
