"""Scores of a classifier and their intervals."""
