"""One video becomes its sampled frames, or a reject reason. Knows neither Ray nor CNNs."""
