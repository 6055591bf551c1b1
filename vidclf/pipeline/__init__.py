"""The Ray Data pipeline of the jobs `extract` and `classify`: from videos to files of features or predictions.

It takes the pending videos (not finished yet) of a run (an output directory): read the manifest, which is the table
of the videos, decode, run the CNN and an optional head, write shards (Parquet files). A head, such as an ensemble of
classifiers, turns the features of a video into the row to write.

Names for other packages:

- `extract.extract`: the `extract` job.
- `driver.embed_videos`: run a pipeline until no video is pending, then write the summaries.
- `job`: `PipelineJob`, `RunSpec`, `BackboneSetup` and the protocols `Head` and `StagedHead` describe a job.
- `graph`: `run`, `prepare` and `map_in_actors`, for a pipeline with other stages (classification of stored features).
- `pools.pool_sizes`: the number of workers per stage, and their CPUs and GPUs.
- `decode_stage.DecodeVideos` and `embed_stage.EmbedVideos`: the stages, for callers that have no Ray Data (the server).
- `engines`: `put_engine_source` and `load_engine` bring a backbone into a worker.
- `video_embedder.VideoEmbedder`: the CNNs and the head of a job in a program without Ray.
- `sink`: `written_columns` and `target_column`, the columns between the last stage and the shards.

May import: `backbones`, `features`, `runs`, `video`, `archive`, `tally`, `ray_cluster` and everything below them.
Never: `planning`, `uncertainty`, `ensemble`, `classification`, `server`. A head reaches the pipeline as a function.
Import from the modules: this file imports nothing, because CPU workers start without torch.
"""
