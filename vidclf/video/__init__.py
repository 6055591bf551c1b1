"""Decoding of one video: from its file to its sampled frames, or to a named reason for rejecting the video.

The package uses neither Ray nor neural networks. Names to import:

    `decoder_process`: SupervisedDecoder, DecodeLimits, DecoderStartError (decoding in a child process)
    `decode`: decode_video (decoding in this process)
    `decoded_video`: DecodedVideo, FileFingerprint
    `decoder_version`: decoder_version
    `sampling`: SamplingPlan, evenly_spread
    `frame_transform`: FrameTransform, FrameTransforms
    `frame_quality`: measure, is_black, sharpened
    `rejection`: VideoRejected
    `source`, `digest`: locate, is_same (is a file still the one that was decoded?)

May import `errors`, `schema`, `arrow`, `credentials`, `config`, `storage`, `progress` and `event_log`, but not
`archive`. Only `frame_reader`, `shown_picture`, `packets`, `planned_reader`, `sequential_reader`, `source` and the
modules that import them (`decode`, `decoder_child`, `digest`, `expected_times`, `indexed_video`) load PyAV.
"""
