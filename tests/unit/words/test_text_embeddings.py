"""Embeddings of texts and probabilities of labels equal those of open_clip's own forward pass. No network is asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.checkpoints import put_into_hub_cache, write_open_clip, write_timm
from tests.support.no_network import forbid_network
from vidclf.backbones.agreement import reference_photos
from vidclf.backbones.resolve import resolve
from vidclf.ensemble.inference import run_members
from vidclf.ensemble.views import PLAIN
from vidclf.errors import ConfigError
from vidclf.words.head import word_model
from vidclf.words.text_embeddings import WordEmbeddings, embed_labels, embed_texts

LABELS = {"cooking": ("a video of someone cooking",), "football": ("a football match", "people on a field")}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forbid_network(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_open_clip(tmp_path_factory.mktemp("models") / "clip", vocab_size=49408, context_length=12)


def test_no_message_says_that_the_weights_are_random(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    embed_texts(resolve(f"local-dir:{folder}", "DEFAULT"), ["a cat"])
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_texts_and_probabilities_are_those_of_open_clip(folder: Path) -> None:
    import open_clip

    network, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model = resolve(f"local-dir:{folder}", "DEFAULT")
    texts = [text for descriptions in LABELS.values() for text in descriptions]
    vectors_ND, logit_scale = embed_texts(model, texts)
    photos = torch.from_numpy(reference_photos(32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.3, 0.2, 0.25]))
    with torch.inference_mode():
        expected_ND = network.eval().encode_text(tokenizer(texts))
        frames_TD = network.encode_image((photos - mean) / std)
    cosines_N = torch.nn.functional.cosine_similarity(torch.from_numpy(vectors_ND), expected_ND)
    assert [f"{cosine:.4f}" for cosine in cosines_N.tolist()] == ["1.0000"] * 3
    assert logit_scale == pytest.approx(1 / 0.07, rel=1e-5)

    words = embed_labels(model, LABELS)
    unit_ND = torch.nn.functional.normalize(expected_ND, dim=1)
    football_D = torch.nn.functional.normalize((unit_ND[1] + unit_ND[2]) / 2, dim=0)
    classes_CD = torch.stack([unit_ND[0], football_D])
    similarity_TC = torch.nn.functional.normalize(frames_TD, dim=1) @ classes_CD.T / 0.07
    expected_C = similarity_TC.mean(dim=0).softmax(dim=0).numpy()
    sequence = frames_TD.numpy().astype(np.float16)
    logits_VMBC, attention = run_members([word_model(words)], [0], [[sequence]], PLAIN, torch.device("cpu"))
    np.testing.assert_allclose(logits_VMBC[0, 0, 0].softmax(dim=0).numpy(), expected_C, atol=1e-3)
    np.testing.assert_allclose(attention[0], 1 / len(sequence), rtol=1e-6)
    assert preprocess is not None


def test_padding_has_no_influence_on_labels_from_words() -> None:
    words = WordEmbeddings(texts_CD=np.eye(2, 3, dtype=np.float32), logit_scale=10.0)
    features_BTD = torch.full((2, 3, 3), float("nan"))
    features_BTD[0] = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [3.0, 0, 0]])
    features_BTD[1, 0] = torch.tensor([3.0, 4.0, 0])
    output = word_model(words)(features_BTD, torch.tensor([3, 1]))
    np.testing.assert_allclose(output.logits_BC, [[20 / 3, 10 / 3], [6.0, 8.0]], rtol=1e-6)
    np.testing.assert_allclose(output.attention_BT, [[1 / 3] * 3, [1, 0, 0]], rtol=1e-6)


def test_a_repository_in_the_cache_has_its_text_tower_too(folder: Path, tmp_path: Path) -> None:
    put_into_hub_cache(tmp_path / "hf", "org/clip", folder)
    of_hub, of_directory = (
        embed_texts(resolve(name, "DEFAULT"), ["a cat"]) for name in ("hf-hub:org/clip", f"local-dir:{folder}")
    )
    assert of_hub[0].tolist() == of_directory[0].tolist()
    assert np.linalg.norm(of_hub[0]) == pytest.approx(1, abs=1e-6)


def test_what_has_no_text_tower_is_refused(folder: Path, tmp_path: Path) -> None:
    def refusal(name: str, weights: str, texts: list[str]) -> str:
        with pytest.raises(ConfigError) as error:
            embed_texts(resolve(name, weights), texts)
        return str(error.value)

    timm = write_timm(tmp_path / "timm")
    assert refusal(f"local-dir:{timm}", "DEFAULT", ["a"]).startswith(
        "--backbone must be a model of pictures and texts with --labels, open_clip/MODEL:TAG or a directory"
    )
    assert "--weights must be DEFAULT or a file" in refusal(f"local-dir:{folder}", "random", ["a"])
    long = "one two three four five six seven eight nine ten eleven"
    assert refusal(f"local-dir:{folder}", "DEFAULT", [long]) == (
        f"--labels: a description must have at most 10 tokens (pieces of words), {long!r} has 11; shorten it"
    )


def with_hugging_face_tokenizer(folder: Path) -> Path:
    """A directory in open_clip's form whose tokenizer is one of the library transformers."""
    write_open_clip(folder, vocab_size=200, context_length=12)
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/any"
    file.write_text(json.dumps(config))
    return folder


def test_a_tokenizer_whose_library_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_hugging_face_tokenizer(tmp_path / "clip")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError) as error:
        embed_texts(resolve(f"local-dir:{folder}", "DEFAULT"), ["a cat"])
    assert str(error.value) == (
        f"--backbone local-dir:{folder}: its text tower needs the package transformers, which is not installed; run "
        "pip install transformers"
    )


def test_a_tokenizer_of_transformers_gives_what_it_gives_in_open_clip(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    import open_clip

    folder = with_hugging_face_tokenizer(tmp_path / "clip")
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "football", "match"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **marks).save_pretrained(str(folder))
    network, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens_NT = open_clip.get_tokenizer(f"local-dir:{folder}")(["a football match"])
    assert tokens_NT[0].tolist() == [1, 4, 5, 6, 2, 0, 0, 0, 0, 0, 0, 0]
    with torch.inference_mode():
        expected_ND = network.eval().encode_text(tokens_NT, normalize=True)
    model = resolve(f"local-dir:{folder}", "DEFAULT")
    np.testing.assert_allclose(embed_texts(model, ["a football match"])[0], expected_ND, atol=1e-6)
    with pytest.raises(ConfigError, match=r"at most 10 tokens \(pieces of words\), .* has 11; shorten it"):
        embed_texts(model, ["a " * 11])
