"""Backbones (pretrained CNNs without their classification layer), which turn video frames into feature vectors.

Names for other packages:

- `catalog`: `FEATURE_DIMS` lists the backbones; `preprocessing` is how frames of one are scaled and normalised.
- `weights`: `load_weights` reads a state dict, `weights_digest` identifies it.
- `known_weights`: `digest_and_state` does both, without torch where the weights were read before.
- `engine.Engine`: a backbone that is ready to run, with OpenVINO or torch.
- `openvino_engine` (CPUs) and `torch_engine` (GPUs): `load` makes an `Engine`. `openvino_convert` and `openvino_cache`
  convert a backbone to OpenVINO, once per machine.
- `int8_weights` (the file) and `int8_calibration` (the `quantize` job): weights in 8-bit integers.
- `agreement`: whether two engines give the same features. `repeated_frames`: equal frames are computed once.

May import: `video`, `archive`, `runs` and everything below them. Never: Ray, `features`, `pipeline`. Import from the
modules: this file imports nothing, because workers on CPUs start without torch.
"""
