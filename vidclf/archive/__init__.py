"""Archives of videos: the manifest (table of the videos), and their split into train, validation and test.

Names to import:

    `manifest`: list_archive, list_unlabelled, read_manifest, Listing, ListingOptions, video_id, sample_of
    `directory`: FileRules
    `video_names`: VIDEO_EXTENSIONS
    `splits`: assign
    `continuation`: continued, kept_splits, num_other_splits, Continuation

May import `errors`, `schema`, `arrow`, `credentials`, `container_signature`, `config`, `storage` and `progress`, but
not `video`.
"""
