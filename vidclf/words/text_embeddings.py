"""Embeddings of texts by the text tower of a model of pictures and texts (open_clip).

Shape suffixes: N texts, C classes, D features.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidclf import storage
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.errors import ConfigError
from vidclf.words.labels import Labels


@dataclass(frozen=True, kw_only=True)
class WordEmbeddings:
    """What a model of pictures and texts says of some labels: everything that decides their probabilities."""

    texts_CD: npt.NDArray[np.float32]
    """embedding of each label, of length 1: the mean over its descriptions, each of length 1"""
    logit_scale: float
    """factor that turns a cosine similarity into a logit, as the model learned it"""


def embed_labels(model: BackboneModel, labels: Labels) -> WordEmbeddings:
    """Embed the descriptions of all labels with the text tower that belongs to the image tower `model`.

    A label's embedding is the mean of those of its descriptions, as CLIP averages its prompts (Radford et al. 2021,
    arXiv:2103.00020, section 3.1.4). Raises ConfigError if `model` has no text tower that can be built here, or a
    description is too long for it.
    """
    flat = [text for descriptions in labels.values() for text in descriptions]
    vectors_ND, logit_scale = embed_texts(model, flat)
    means, start = [], 0
    for descriptions in labels.values():
        mean_D = vectors_ND[start : start + len(descriptions)].mean(axis=0)
        means.append(mean_D / np.linalg.norm(mean_D))
        start += len(descriptions)
    return WordEmbeddings(texts_CD=np.stack(means), logit_scale=logit_scale)


def embed_texts(model: BackboneModel, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], float]:
    """Embeddings [N, D] of texts, each of length 1, and the model's logit scale."""
    if model.library != "open_clip":
        raise ConfigError(
            f"--backbone must be a model of pictures and texts with --labels, open_clip/MODEL:TAG or a directory or "
            f"repository in open_clip's form, got {model.name!r}"
        )
    if model.weights == "random":
        raise ConfigError("--weights must be DEFAULT or a file with both towers with --labels, got 'random'")
    import open_clip

    source = _source(model)
    try:
        # The weights of both towers are loaded below; without these arguments open_clip would download some.
        with _without_warning():
            network = open_clip.create_model(source, load_weights=False, pretrained_text=False)
        tokenizer = open_clip.get_tokenizer(_tokenizer_source(model, source))
        _load(network, str(model.checkpoint) if model.weights == "DEFAULT" else model.weights)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:  # open_clip does not need transformers unless the tokenizer or tower is its
        raise ConfigError(
            f"--backbone {model.name}: its text tower needs the package {error.name}, which is not installed; run "
            f"pip install {error.name}"
        ) from error
    except Exception as error:  # open_clip raises errors of many types, also those of its tokenizers' libraries
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"--backbone {model.name}: its text tower cannot be loaded ({type(error).__name__}: {reason})"
        ) from error
    _check_lengths(tokenizer, texts)
    with torch.inference_mode():
        vectors_ND = network.eval().encode_text(tokenizer(list(texts)), normalize=True).float().numpy()
        logit_scale = float(network.logit_scale.exp())
    if not np.isfinite(vectors_ND).all() or not np.isfinite(logit_scale):
        raise ConfigError(f"--backbone {model.name}: its text tower gives values that are not finite")
    return vectors_ND, logit_scale


@contextmanager
def _without_warning() -> Iterator[None]:
    """Drop open_clip's warning of a model without weights, which it logs with the root logger: they are loaded
    later."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()
    root.addFilter(is_shown)
    try:
        yield
    finally:
        root.removeFilter(is_shown)


def _source(model: BackboneModel) -> str:
    """What open_clip calls the model: the name of an architecture, or a directory on this machine."""
    if model.name.startswith("open_clip/"):
        return model.name.removeprefix("open_clip/").partition(":")[0]
    folder = model.name.removeprefix("local-dir:")
    if model.name.startswith("hf-hub:"):
        if model.checkpoint is None:
            raise ConfigError(f"--weights must be DEFAULT with --labels and --backbone {model.name}")
        folder = str(Path(model.checkpoint).parent)  # the snapshot of the revision in the cache
    if not os.path.isdir(folder):
        raise ConfigError(f"--backbone {model.name}: must be a directory on this machine with --labels; copy it here")
    return f"local-dir:{folder}"


def _tokenizer_source(model: BackboneModel, source: str) -> str:
    """Where open_clip finds the tokenizer: with the model or, for a repository whose tokenizer is not in the cache yet,
    in the repository."""
    folder = Path(source.removeprefix("local-dir:"))
    if model.name.startswith("hf-hub:") and not (folder / "tokenizer_config.json").exists():
        return model.name.partition("@")[0]
    return source


def _load(network: Any, location: str) -> None:
    """Load the weights of both towers from a file at a path or URI."""
    from open_clip.factory import load_checkpoint

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(storage.canonical(location))
        if not path.exists():
            path = Path(scratch) / location.rsplit("/", 1)[-1].split("?")[0]
            path.write_bytes(storage.read_bytes(location))
        load_checkpoint(network, str(path))


def _check_lengths(tokenizer: Any, texts: Sequence[str]) -> None:
    """Raise ConfigError for a text that the tokenizer would cut, as far as the tokenizer counts tokens."""
    if not hasattr(tokenizer, "context_length"):
        return
    for text in texts:
        num_tokens, num_marks = _count_tokens(tokenizer, text)
        most = int(tokenizer.context_length) - num_marks
        if num_tokens > most:
            raise ConfigError(
                f"--labels: a description must have at most {most} tokens (pieces of words), {text!r} has "
                f"{num_tokens}; shorten it"
            )


def _count_tokens(tokenizer: Any, text: str) -> tuple[int, int]:
    """Number of tokens of a text, and of the tokens that mark its begin and end.

    open_clip's own tokenizer counts by `encode`. Its wrappers of a tokenizer of the library transformers hold that one
    as `tokenizer`, and clean texts by `clean_fn` before it.
    """
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)), 2
    inner, clean = getattr(tokenizer, "tokenizer", None), getattr(tokenizer, "clean_fn", str)
    if inner is None or not hasattr(inner, "num_special_tokens_to_add"):
        return 0, 0
    return len(inner(clean(text), add_special_tokens=False)["input_ids"]), int(inner.num_special_tokens_to_add())
