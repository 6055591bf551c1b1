"""Classification by words: classes that are described in words instead of learned from labelled videos.

A model of pictures and texts (open_clip) embeds frames and descriptions into one space. The class of a video is the one
whose description its frames are most similar to (CLIP, Radford et al. 2021, arXiv:2103.00020).

- `labels`: `read_labels`; `text_embeddings`: `embed_texts`
- `head`: `WordHead`; `calibration`: `calibrated_ensemble`
- `word_job`: `word_classification`; `archive_job`: `classify_videos`
"""
