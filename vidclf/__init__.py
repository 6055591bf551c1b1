"""vidclf: classification of large video archives, as batch jobs on a Ray cluster."""

__version__ = "0.1.0"
