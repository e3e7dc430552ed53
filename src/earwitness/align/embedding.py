"""How alike are two sentences? One function for the similarities S and I of RL-CoMM (arXiv 2511.10059, eqs. 3, 4).

``sentence_similarity(name)`` gives ``similarity(texts, others)``: the cosine of row i's text with row i's other
text, in [-1, 1]; never of all with all, or of all with the first.

==========================  ======================================================================================
words                       no model: content words and pairs of them, counted (below); on any machine, exact
qwen3-embedding:PATH        Qwen3-Embedding, RL-CoMM's choice (0.6B): the last token's state; the text is a query
                            under an instruction, the other text stands bare
sentence-transformers:PATH  a BERT-like encoder: mean (or first token's) state, as its 1_Pooling/config.json says
==========================  ======================================================================================

PATH is a checkpoint folder or a hub id. Embeddings are L2-normalised, made in batches of similar length, and kept
by text: the reference and the answers of a group come again and again.

"words": lower case, plural and possessive s off, function words out ("I", "the", "is"; "no", "not" and numbers
stay); each remaining word and each pair of neighbours counts 1; cosine of the counts. "I hear a bell." and "A bell
is heard." differ in it ("hear", "heard"), synonyms are strangers, and two things named in another order are 0.6.
It is meant for templated sentences such as Hans's: the same sentence is 1, and "I hear a drum." beside "I hear a
bell." is 1/3, far below RL-CoMM's omega of 0.8. For free text take a model.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earwitness.questions.parsing import clean, singular

if TYPE_CHECKING:
    import torch

Similarity = Callable[[list[str], list[str]], list[float]]

# RL-CoMM, section "Step-wise Reasoning Reward Function": the task of each similarity.
ARR_TASK = "Judge whether the given query o1 is semantically consistent with the provided content o_ref"
AVC_TASK = "Given a query o1, retrieve semantically coherent content o2"

FAMILIES = ("words", "qwen3-embedding:PATH", "sentence-transformers:PATH")
LIMIT = 512  # tokens of a text that are read, at most; RL-CoMM samples 256
KEPT = 1 << 15  # embeddings kept: 128 MB of 1,024 numbers

_FUNCTION_WORDS = frozenset(
    "a an the this that these those i we you he she it they me us him her them my our your his its their one's "
    "is are was were be been being am do does did have has had will would can could may might shall should "
    "of in on at by for with from to as and or so than there here which who whom whose what also very".split()
)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def sentence_similarity(
    name: str = "words", *, task: str = ARR_TASK, device: str = "cpu", batch: int = 32
) -> Similarity:
    """A similarity by name; its model is loaded here, once for all tasks.

    Parameters
    ----------
    name : "words", "qwen3-embedding:PATH" or "sentence-transformers:PATH".
    task : the instruction for models that take one (Qwen3-Embedding): ``ARR_TASK`` for S, ``AVC_TASK`` for I.
    device : "cpu", "cuda", "cuda:1". Weights are float32 on a CPU and bfloat16 on a GPU.
    batch : texts embedded together.

    Raises
    ------
    ValueError
        Where the name is unknown, the checkpoint cannot be read, or its pooling is one that is not known here.
    """
    family, _, path = name.partition(":")
    if name == "words":
        return word_similarity
    if f"{family}:PATH" not in FAMILIES or not path:
        raise ValueError(f"there is no sentence similarity {name!r}; there are {', '.join(FAMILIES)}")
    if batch < 1:
        raise ValueError(f"a batch of {batch} texts cannot be embedded: 1 or more")
    encoder = _load(family, path, device)

    def similarity(texts: list[str], others: list[str]) -> list[float]:
        _same_length(texts, others)
        asked = [encoder.query(task, text) for text in texts]
        vectors = encoder.embed([*asked, *others], batch)
        return [float(vectors[a] @ vectors[b]) for a, b in zip(asked, others, strict=True)]

    return similarity


def _same_length(texts: list[str], others: list[str]) -> None:
    if len(texts) != len(others):
        raise ValueError(f"{len(texts)} texts and {len(others)} others: similarity is row by row")


@lru_cache(maxsize=KEPT)
def _counts(text: str) -> Counter[tuple[str, ...]]:
    words = [w for w in _WORD.findall(clean(text)) if w not in _FUNCTION_WORDS]
    words = [singular(w) for w in words]
    return Counter([*((w,) for w in words), *pairwise(words)])


def word_similarity(texts: list[str], others: list[str]) -> list[float]:
    """Cosine in [0, 1] of the counts of content words and of pairs of them; 0 where a text has none.

    >>> word_similarity(["I hear a bell.", "I hear a bell."], ["I hear the bells!", "I hear a drum."])
    [1.0, 0.3333333333333333]
    """
    _same_length(texts, others)
    out = []
    for text, other in zip(texts, others, strict=True):
        a, b = _counts(text), _counts(other)
        dot = sum(n * b[key] for key, n in a.items())
        size = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
        out.append(dot / size if size else 0.0)
    return out


Pooling = Literal["mean", "first", "last"]


class Encoder:
    """A text encoder with its tokenizer; keeps the embeddings of the texts that it met last."""

    def __init__(self, model: Any, tokenizer: Any, pooling: Pooling, limit: int, *, instructed: bool) -> None:
        self.model, self.tokenizer, self.pooling, self.limit = model, tokenizer, pooling, limit
        self.instructed = instructed
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def query(self, task: str, text: str) -> str:
        """A text as the model is asked with it: Qwen3-Embedding's card, "Instruct: {task}\\nQuery:{query}"."""
        return f"Instruct: {task}\nQuery:{text}" if self.instructed else text

    def embed(self, texts: list[str], batch: int) -> dict[str, torch.Tensor]:
        """Text -> its L2-normalised embedding, float32 on the CPU."""
        found = {text: self._kept[text] for text in texts if text in self._kept}
        new = sorted(set(texts) - found.keys(), key=lambda t: (len(t), t))
        for start in range(0, len(new), batch):
            some = new[start : start + batch]
            found |= zip(some, self._forward(some), strict=True)
        for text in dict.fromkeys(texts):
            self._kept[text] = found[text]
            self._kept.move_to_end(text)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _forward(self, texts: list[str]) -> list[torch.Tensor]:
        import torch

        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.limit, return_tensors="pt"
        ).to(self.model.device)
        with torch.no_grad():
            states = self.model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"]
        if self.pooling == "mean":
            weights = mask[..., None].float()
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        else:  # the first or the last token that is none of the padding, whichever side that is on
            places = torch.arange(mask.shape[1], device=mask.device) * mask
            at = mask.argmax(1) if self.pooling == "first" else places.argmax(1)
            pooled = states[torch.arange(len(texts), device=mask.device), at]
        return list(torch.nn.functional.normalize(pooled, dim=-1).cpu())


@lru_cache(maxsize=2)
def _load(family: str, path: str, device: str) -> Encoder:
    import torch

    from earwitness.models.quiet import quiet  # declares torchvision's operators, so before transformers
    from transformers import AutoModel, AutoTokenizer  # isort: skip

    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    instructed = family == "qwen3-embedding"
    side = {"padding_side": "left"} if instructed else {}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, **side)
            model = AutoModel.from_pretrained(path, dtype=dtype).to(device).eval()
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"no text encoder can be read from {path!r}: {str(error).splitlines()[0]} (a folder with config.json, "
            "tokenizer and weights as safetensors, or a hub id)"
        ) from error
    if instructed:
        return Encoder(model, tokenizer, "last", LIMIT, instructed=True)
    limit = int(_read(path, "sentence_bert_config.json").get("max_seq_length") or LIMIT)
    return Encoder(model, tokenizer, _pooling(path), limit, instructed=False)


def _read(path: str, name: str) -> dict[str, Any]:
    """A JSON file of the checkpoint folder; {} where there is none."""
    file = Path(path, name)
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _pooling(path: str) -> Pooling:
    """What sentence-transformers' own file says; mean where the folder has none (or PATH is a hub id)."""
    told = _read(path, "1_Pooling/config.json")
    modes = sorted(
        key.removeprefix("pooling_mode_") for key, on in told.items() if key.startswith("pooling_mode_") and on
    )
    known: dict[tuple[str, ...], Pooling] = {
        (): "mean", ("mean_tokens",): "mean", ("cls_token",): "first", ("lasttoken",): "last",
    }  # fmt: skip
    if tuple(modes) not in known:
        raise ValueError(
            f"{path}/1_Pooling/config.json pools by {', '.join(modes)}; mean, cls or lasttoken is read here"
        )
    return known[tuple(modes)]
