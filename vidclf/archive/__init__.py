"""Which videos: an archive or a list becomes a manifest, split by source."""
