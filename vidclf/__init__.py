"""vidclf: offline classification of large video archives on a Ray cluster."""

__version__ = "0.1.0"
