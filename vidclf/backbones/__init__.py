"""Pretrained CNNs: frames become feature vectors. Knows no Ray."""
