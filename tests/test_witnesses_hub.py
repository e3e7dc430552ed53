"""Checkpoints of transformers as witnesses: tiny random ones, against calling the models plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from earwitness.curate.checks import witnesses  # noqa: E402
from earwitness.curate.checks import witnesses_hub as hub  # noqa: E402
from earwitness.models import torchvision_ops  # noqa: E402, F401 - must come before transformers
from earwitness.records import Clip, Media  # noqa: E402

transformers = pytest.importorskip("transformers")
FRAMES = np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3)).astype(np.uint8)
WAVE = np.random.default_rng(0).normal(0, 0.1, (1, 32_000)).astype(np.float32)
NAMES = {0: "Bark", 1: "Speech", 2: "Frog"}


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny audio spectrogram transformer with three labels."""
    folder = tmp_path_factory.mktemp("ast")
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=64,
        num_mel_bins=32, id2label=NAMES, label2id={v: k for k, v in NAMES.items()},
    )  # fmt: skip
    transformers.ASTForAudioClassification(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with a tokenizer of single words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", "a", "photo", "of", "cat", "dog", "frog", "accordion"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<|endoftext|>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=16
    )
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 0,
            "pad_token_id": 1,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_an_audio_classifier_hears_as_when_called_plainly(ast: Path) -> None:
    hears = witnesses.open_tagger(f"transformers:{ast}")
    assert hears.labels == ("Bark", "Speech", "Frog")
    assert hears.topics == ("Canidae", "Speech", "Frog")
    assert hears.id.startswith(f"transformers:{ast}@")
    got = hears.hear(WAVE, 16_000)
    model = transformers.ASTForAudioClassification.from_pretrained(ast).eval()
    fed = transformers.ASTFeatureExtractor.from_pretrained(ast)(WAVE[0], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        wanted = model(**fed).logits.sigmoid()[0].numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    found = hears.verdict(Clip(id="c", heard=("dog",)), Media(None, None, WAVE, 16_000, 2.0))
    assert found.passed is not None
    assert found.by == hears.id


def test_long_waves_are_heard_in_windows() -> None:
    parts = hub.windows(np.arange(25, dtype=np.float32), 10)
    assert [int(p[0]) for p in parts] == [0, 5, 10, 15]
    assert int(parts[-1][-1]) == 24
    assert len(hub.windows(np.zeros(7, np.float32), 10)) == 1


def test_clip_chooses_among_the_labels_it_is_given(clip: Path) -> None:
    sees = witnesses.open_classifier(f"transformers:{clip}", labels=("Cat", "dog", "accordion"))
    assert sees.labels == ("Cat", "dog", "accordion")
    assert sees.topics == ("Cat", "Canidae", "Accordion")
    got = sees.see(FRAMES)
    assert got.sum() == pytest.approx(1.0, abs=1e-5)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    taking = transformers.CLIPProcessor.from_pretrained(clip)
    texts = ["a photo of cat", "a photo of dog", "a photo of accordion"]
    fed = taking(text=texts, images=list(FRAMES), return_tensors="pt", padding=True)
    with torch.no_grad():
        wanted = model(**fed).logits_per_image.softmax(-1).mean(0).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    # Without labels it is asked about the classes.
    assert "Accordion" in witnesses.open_classifier(f"transformers:{clip}").labels


def test_an_image_classifier_has_its_own_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=8, id2label={0: "Cat", 1: "Accordion"}, label2id={"Cat": 0, "Accordion": 1},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    taking = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    taking.save_pretrained(tmp_path)
    sees = witnesses.open_classifier(f"transformers:{tmp_path}")
    with torch.no_grad():
        wanted = model(**taking(list(FRAMES), return_tensors="pt")).logits.softmax(-1).mean(0).numpy()
    np.testing.assert_allclose(sees.see(FRAMES), wanted, rtol=1e-4)
    assert sees.topics == ("Cat", "Accordion")


def test_a_checkpoint_of_another_kind_is_refused(ast: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not for audio classification"):
        witnesses.open_tagger(f"transformers:{clip}")
    with pytest.raises(ValueError, match="is not for image classification"):
        witnesses.open_classifier(f"transformers:{ast}")
    # A checkpoint whose head is not there would witness at random.
    config = transformers.ASTConfig.from_pretrained(ast)
    transformers.ASTModel(config).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="would witness at random"):
        witnesses.open_tagger(f"transformers:{tmp_path}")
