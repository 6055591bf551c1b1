"""The directory of a run: file names, state, audit, summary. Knows no Ray."""
