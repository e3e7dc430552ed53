"""With which settings? The published recipes, each number with the place it comes from, and our own.

A recipe is plain data (:class:`Recipe`), made by a function of its name: ``named("mma-sft")``, or with changes,
``named("mma-sft", steps=200)``. A published setting is never altered in silence: what a source leaves open, or what
we do otherwise, stands in ``ours``.

=============  ======  ===================================================================================
recipe         stage   from
=============  ======  ===================================================================================
mma-sft        sft     Some Modalities Are More Equal Than Others, arXiv 2511.22826, Table 8, appendix D
thud-sft       sft     When Vision Speaks for Sound, arXiv 2605.16403, appendix E: the warm-up before DPO
thud-dpo       dpo     the same, from the checkpoint of thud-sft
comm-warmup    sft     When Eyes and Ears Disagree, arXiv 2511.10059: RL-CoMM's warm-up on the tag format
comm-grpo      grpo    RL-CoMM's Step-RR
comm-ansco     ansco   RL-CoMM's Ans-CO
hans-*         any     what the same steps need on a model of two million parameters; ours
=============  ======  ===================================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

Stage = Literal["sft", "dpo", "grpo", "ansco"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Above = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


ABOUT = ("name", "stage", "source", "quotes", "ours")  # fields of a recipe that are no settings


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one training stage. Rates are per optimizer step; a batch counts pairs (grpo: prompts)."""

    name: str
    stage: Stage
    source: str  # paper, section, table
    quotes: dict[str, str] = {}  # field -> the source's own words
    ours: dict[str, str] = {}  # field -> why it is ours, or differs
    # what learns
    trains: Literal["lora", "text"] = (
        "lora"  # a low-rank addition, or the whole text model with its word embeddings
    )
    targets: Literal["all", "attention", "qv"] = "all"  # linear layers of the text model that get one
    rank: Count = 16
    alpha: Above = 32
    dropout: float = 0.0
    words: float = 1.0  # "text": rate of the word embeddings over that of the layers
    # how
    rate: Above = 1e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.03  # share of all steps
    decay: float = 0.0
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: Above = 1.0
    steps: Count | None = None  # in place of epochs
    batch: Count = 4  # on each device at once
    accumulate: Count = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = (
        "auto"  # on a GPU (auto: bfloat16); a CPU: float32
    )
    checkpointing: bool | None = None  # gradient checkpointing; None: on a GPU
    seed: int = 0
    weigh: Literal["token", "answer"] = "token"  # sft, ansco: what counts alike in a batch
    together: Count = 1  # sft: so many pairs on the same media come in one batch, at most
    # preferences
    beta: float = 0.1
    nll: float = 0.0  # weight of the chosen answer's mean negative log-prob beside the preference
    # groups of samples
    group: Count = 8
    temperature: float = 1.0
    tokens: Count = 256  # new ones at most
    epsilon: float = 0.2
    reduce: Literal["grpo", "dapo"] = "dapo"  # each answer's mean, or the mean over all tokens (losses.grpo)
    mask_truncated: bool = False  # answers that did not come to their end teach nothing
    omega: float = 0.8  # RL-CoMM eq. 3: similarity that counts as consistent
    rewards: tuple[str, ...] = ("format", "arr", "avc")
    reward_weights: tuple[float, ...] = ()  # one a reward; () = 1 each
    similarity: str = "words"  # embedding.sentence_similarity
    # answer-centred confidence
    weight: float = 0.5  # lambda, eq. 6
    gate: float = 0.75  # uncertainty above which the entropy term is off
    uncertainty: Literal["full", "top10"] = "full"
    # checkpoints
    validate_every: Count = 50  # optimizer steps
    validation: Annotated[int, msgspec.Meta(ge=0)] = 200  # pairs asked at most; 0: none
    keep: Count = 2  # checkpoints to resume from
    back: tuple[Share, ...] = ()  # shares of the way to try at the end, falling, as long as validation allows


_PAPER_MMA = "arXiv 2511.22826, Table 8 and appendix D"
_PAPER_THUD = "arXiv 2605.16403, appendix E and Table 4"
_PAPER_COMM = "arXiv 2511.10059, sections 3.2 and 4.1, and the released configuration"


def _mma_sft() -> Recipe:
    return Recipe(
        name="mma-sft", stage="sft", source=_PAPER_MMA, trains="lora", targets="all", rank=8, alpha=16, rate=1e-4,
        schedule="cosine", warmup=0.1, epochs=5, batch=4, accumulate=4, precision="float16", validate_every=100,
        validation=1000,
        quotes={
            "rank": "Table 8: LoRA rank 8", "rate": "Table 8: learning rate 1e-4", "schedule": "Table 8: cosine",
            "batch": "Table 8: batch size 4", "accumulate": "Table 8: gradient accumulation 4",
            "warmup": "Table 8: warm-up ratio 0.1", "epochs": "Table 8: 5 epochs", "precision": "Table 8: fp16",
            "validation": "appendix D: best checkpoint by validation accuracy on 1K samples",
        },
        ours={
            "targets": "the text says all linear layers of attention and feed-forward, Table 8 says W_Q, W_V: all "
            "unless targets=qv",
            "alpha": "not given: twice the rank",
        },
    )  # fmt: skip


def _thud_sft() -> Recipe:
    return Recipe(
        name="thud-sft", stage="sft", source=_PAPER_THUD, trains="text", rate=2e-6, schedule="cosine", warmup=0.03,
        decay=0.01, clip=1.0, epochs=3, batch=1, accumulate=32, precision="bfloat16",
        quotes={
            "trains": "full parameters", "rate": "lr 2e-6", "schedule": "cosine", "warmup": "warm-up 0.03",
            "decay": "weight decay 0.01", "clip": "clip 1.0", "epochs": "3 epochs", "precision": "bf16",
            "accumulate": "effective batch 32",
        },
        ours={"trains": "the text model; eyes and ears stay frozen"},
    )  # fmt: skip


def _thud_dpo() -> Recipe:
    return Recipe(
        name="thud-dpo", stage="dpo", source=_PAPER_THUD, trains="lora", rank=32, alpha=64, dropout=0.05, rate=1e-6,
        schedule="cosine", warmup=0.03, decay=0.0, epochs=1, batch=1, accumulate=64, beta=0.1, precision="bfloat16",
        quotes={
            "rank": "LoRA r 32", "alpha": "alpha 64", "dropout": "dropout 0.05", "epochs": "1 epoch",
            "rate": "lr 1e-6", "schedule": "cosine / 0.03", "decay": "weight decay 0", "beta": "sigmoid, beta 0.1",
            "accumulate": "effective batch 64",
        },
        ours={"nll": "none, as published; nll=1 keeps the chosen answers likely (TRL's [sigmoid, sft])"},
    )  # fmt: skip


def _comm_warmup() -> Recipe:
    return Recipe(
        name="comm-warmup", stage="sft", source=_PAPER_COMM, trains="lora", rank=16, alpha=32, rate=1e-5, epochs=3,
        batch=1, accumulate=8, warmup=0.03, clip=0.3, precision="bfloat16", validate_every=25,
        quotes={"epochs": "3 epochs", "warmup": "warm-up 0.03", "clip": "clip 0.3"},
        ours={
            "rate": "not given for the warm-up",
            "rank": "not given: whether the warm-up was low-rank is not stated",
        },
    )  # fmt: skip


def _comm_grpo() -> Recipe:
    return Recipe(
        name="comm-grpo", stage="grpo", source=_PAPER_COMM, trains="lora", rank=16, alpha=32, rate=1e-6, epochs=3,
        batch=1, accumulate=1, warmup=0.03, clip=0.3, group=6, temperature=0.9, tokens=256, omega=0.8,
        precision="bfloat16", similarity="qwen3-embedding:Qwen/Qwen3-Embedding-0.6B", reduce="grpo",
        quotes={
            "group": "G 6", "temperature": "temperature 0.9", "tokens": "256 new tokens", "rate": "lr 1e-6",
            "epochs": "3 epochs", "clip": "clip 0.3", "warmup": "warm-up 0.03", "omega": "eq. 3: S > 0.8",
            "similarity": "S: Qwen3-Embedding-0.6B",
        },
        ours={
            "rank": "not given",
            "reduce": "eq. 1 is of whole answers: the mean over an answer's tokens, as in GRPO's own paper",
            "mask_truncated": "not given: an answer that is cut off has a wrong format, and counts as that",
        },
    )  # fmt: skip


def _comm_ansco() -> Recipe:
    return Recipe(
        name="comm-ansco", stage="ansco", source=_PAPER_COMM, trains="lora", rank=16, alpha=32, rate=1e-6, epochs=3,
        batch=1, accumulate=8, warmup=0.03, clip=0.3, weight=0.5, gate=0.75, weigh="answer", precision="bfloat16",
        quotes={
            "weight": "eq. 6: lambda = 0.5", "gate": "0 when the answer's uncertainty u > 0.75",
            "weigh": "eq. 6: 1/T times the sum over an answer's tokens",
        },
        ours={
            "uncertainty": "u is not defined: entropy / ln |V| (full), or over the ten likeliest / ln 10 (top10), "
            "as in the work that the threshold comes from",
        },
    )  # fmt: skip


def _hans_sft() -> Recipe:
    return Recipe(
        name="hans-sft", stage="sft", source="ours, for a model of two million parameters", trains="text",
        rate=2e-3, words=1.0, betas=(0.9, 0.98), warmup=0.04, schedule="cosine", steps=600, batch=64,
        weigh="answer", together=4, precision="float32", validate_every=100, validation=400, keep=1,
        ours={
            "trains": "two questions differ in one token of a hundred that so far meant nothing to Hans: with the "
            "word embeddings frozen the loss stays high",
        },
    )  # fmt: skip


def _hans_sync() -> Recipe:
    return msgspec.structs.replace(
        _hans_sft(), name="hans-sync", rate=3e-3, steps=1500, batch=40, together=2, warmup=0.02,
        validate_every=500,
        ours={
            "rate": "the eye says whether a thing is struck yet in another direction for each class, with a tenth "
            "to a half of its strength; to read that takes many steps, and more of them at 1e-3",
        },
    )  # fmt: skip


def _hans_more() -> Recipe:
    return msgspec.structs.replace(_hans_sft(), name="hans-more", rate=1.5e-3, steps=350)


def _hans_last() -> Recipe:
    return msgspec.structs.replace(_hans_sft(), name="hans-last", rate=7e-4, steps=240, validate_every=120)


def _hans_carry() -> Recipe:
    return msgspec.structs.replace(
        _hans_sft(), name="hans-carry", trains="lora", rank=8, alpha=16, rate=3e-3, steps=400, batch=16, together=2,
        validate_every=200, validation=300, back=(0.95, 0.9, 0.85, 0.8, 0.75, 0.7),
        ours={
            "trains": "a small addition, words frozen, 6,400 rows: the more is trained on some classes, the more "
            "names of the others are lost",
            "back": "part of the way keeps what was taught and gives names back (WiSE-FT, arXiv 2109.01903)",
        },
    )  # fmt: skip


# The published steps with what a model of two million random parameters needs of them: rates and steps are ours.
_SMALL = "rates and steps are for a model of two million parameters, on which the published ones do nothing"


def _hans(name: str, base: Recipe, **changes: object) -> Recipe:
    made = {"name": name, "precision": "float32", "validate_every": 50, "validation": 300, "keep": 1, **changes}
    kept = {k: v for k, v in base.quotes.items() if k not in made}
    return msgspec.structs.replace(base, **made, quotes=kept, ours={**base.ours, "rate": _SMALL})


def _hans_mma() -> Recipe:
    return _hans("hans-mma", _mma_sft(), rate=3e-3, steps=400, batch=16, accumulate=1, together=2)


def _hans_thud_sft() -> Recipe:
    return _hans("hans-thud-sft", _thud_sft(), rate=1e-3, words=4.0, steps=300, batch=32, accumulate=1)


def _hans_thud_dpo() -> Recipe:
    return _hans("hans-thud-dpo", _thud_dpo(), rate=5e-4, steps=200, batch=16, accumulate=1)


def _hans_warmup() -> Recipe:
    return _hans(
        "hans-warmup", _comm_warmup(), trains="text", rate=1e-3, words=4.0, steps=200, batch=32, accumulate=1
    )


def _hans_grpo() -> Recipe:
    return _hans(
        "hans-grpo", _comm_grpo(), rate=1e-3, steps=60, batch=48, similarity="words", tokens=96, validate_every=20
    )


def _hans_ansco() -> Recipe:
    return _hans("hans-ansco", _comm_ansco(), rate=5e-4, steps=100, batch=32, accumulate=1)


_MADE = {
    "mma-sft": _mma_sft, "thud-sft": _thud_sft, "thud-dpo": _thud_dpo, "comm-warmup": _comm_warmup,
    "comm-grpo": _comm_grpo, "comm-ansco": _comm_ansco, "hans-sft": _hans_sft,
    "hans-sync": _hans_sync, "hans-more": _hans_more, "hans-last": _hans_last,
    "hans-carry": _hans_carry,
    "hans-mma": _hans_mma, "hans-thud-sft": _hans_thud_sft, "hans-thud-dpo": _hans_thud_dpo,
    "hans-warmup": _hans_warmup, "hans-grpo": _hans_grpo, "hans-ansco": _hans_ansco,
}  # fmt: skip


def names() -> list[str]:
    """All recipes by name."""
    return list(_MADE)


def named(name: str, **changes: object) -> Recipe:
    """The recipe of that name with these fields changed; ValueError for unknown names, fields and values."""
    if name not in _MADE:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(_MADE)}")
    fields = msgspec.to_builtins(_MADE[name]())
    unknown = sorted(set(changes) - set(fields))
    if unknown:
        raise ValueError(_no_such(unknown[0], fields))
    try:
        return msgspec.convert({**fields, **changes}, type=Recipe)
    except msgspec.ValidationError as error:
        raise ValueError(f"recipe {name}: {error}") from error


def changed(name: str, texts: Mapping[str, str]) -> Recipe:
    """The same, from the words of a command line (``steps=200``). Raises ValueError as :func:`named` does."""
    types = {f.name: f.type for f in msgspec.structs.fields(Recipe)}
    unknown = sorted(set(texts) - set(types))
    if unknown:
        raise ValueError(_no_such(unknown[0], types))
    values: dict[str, object] = {}
    for key, text in texts.items():
        kind = types[key]
        many = getattr(kind, "__origin__", None) is tuple
        try:
            values[key] = msgspec.convert(
                (text.split(",") if text else []) if many else text, type=kind, strict=False
            )
        except msgspec.ValidationError as error:
            raise ValueError(f"--set {key}={text}: {error}") from error
    return named(name, **msgspec.to_builtins(values))


# What other trainers call our settings.
_ELSEWHERE = {
    "lr": "rate", "learning_rate": "rate", "batch_size": "batch", "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulate", "num_train_epochs": "epochs", "max_steps": "steps", "r": "rank",
    "lora_rank": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "weight_decay": "decay",
    "warmup_ratio": "warmup", "max_grad_norm": "clip", "num_generations": "group",
    "max_completion_length": "tokens", "save_steps": "validate_every", "gradient_checkpointing": "checkpointing",
}  # fmt: skip


def _no_such(key: str, known: Iterable[str]) -> str:
    settings = [name for name in known if name not in ABOUT]
    near = _ELSEWHERE.get(key) or next(iter(difflib.get_close_matches(key, settings, n=1)), None)
    guess = f" (did you mean {near}?)" if near else ""
    return f"a recipe has no setting {key!r}{guess}; it has {', '.join(settings)}"
