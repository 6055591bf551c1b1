"""Archives: the manifest of their videos, and the split of the videos into train, validation and test.

Names to import:
    `manifest`: list_archive, read_manifest, Listing, video_id, sample_of, VIDEO_EXTENSIONS
    `splits`: assign

May import `errors`, `schema`, `arrow`, `credentials`, `config`, `storage` and `progress`, but not `video`.
"""
