"""Which token of a prompt is what? A partition of everything a model reads for one item.

===============  ============================================================================================
``sink``         the first token: attention that has nowhere to go ends up there
``template``     system turn, role headers, the assistant's header
``instruction``  the user's words, but for the next two
``caption``      a caption put before the question ("Video_caption: X. ")
``options``      what there is to choose from ("Options: {...}", or lettered lines)
``marker``       the tokens that open and close a picture or a sound
``video``        video tokens
``audio``        audio tokens
``generated``    the answer's tokens
===============  ============================================================================================

"Text" is the first five and the last: told apart, since most of what is reported as attention to text goes to the
sink and the system turn (arXiv 2511.22826, its own heat map).

Words are found by their characters in the prompt, never by searching token ids: merges cross the borders of words.
A token belongs where its first character that is no space lies. Media tokens are known by the ids of the
checkpoint's config, which the tokenizer must share; how picture and sound are interleaved does not matter then.

Each media token also gets its second on the clip's clock: a video token from its temporal position, an audio token
from the sound it is made of. For the published checkpoints both clocks are that of the positions (Qwen2.5: 25 a
second, in chunks of 2 s; Qwen3: 13, by time stamps); Hans makes 10 audio tokens a second and counts them as 25.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from earwitness.models.qwen_inputs import Kind, Layout, Thinker, audio_tokens, chat_text
from earwitness.records import Item
from earwitness.whitebox.moments import GROUPS

ID = {name: n for n, name in enumerate(GROUPS)}
MARK = "\ue000"  # stands for the question while its place in the chat format is looked for
# Where a class has a full stop itself, the question's first words tell where the caption ends.
CAPTION = re.compile(r"Video_caption: (?:.+? (?=Which class |Think step )|.+?\.(?: |$))")
OPTIONS = re.compile(r"Options: \{[^{}]*\}")
LETTERED = re.compile(r"^[ \t]*\(?[A-J][.):].*$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Everything read for an item, token by token: what the processor makes of the prompt, then the answer."""

    ids: tuple[int, ...]
    groups: NDArray[np.int8]  # number of each one's group in GROUPS
    seconds: NDArray[np.float32]  # of video and audio tokens on the clip's clock, nan elsewhere
    words: tuple[str, ...]  # what each one says, spaces and all; nothing for video and audio tokens
    prompt: int  # how many of them are the prompt


def group_tokens(thinker: Thinker, item: Item, kind: Kind, layout: Layout, answer: tuple[int, ...]) -> Tokens:
    """Groups and times of an item's whole sequence, its media laid out as ``layout``, with these answer tokens.

    Raises
    ------
    ValueError
        Where the tokenizer tells no character offsets, its media tokens are not the model's, or the chat format
        rewrites the question.
    """
    text = chat_text(thinker, item, kind)
    tokenizer = thinker.processor.tokenizer
    if not tokenizer.is_fast:
        raise ValueError(
            "this tokenizer tells no character offsets (a slow one): question and options stay unfound"
        )
    told = tokenizer(text, return_offsets_mapping=True)
    ids = [int(i) for i in told["input_ids"]]
    letters = _letters(thinker, item, kind, text)
    groups = [int(letters[_first(text, start, end)]) for start, end in told["offset_mapping"]]
    by_id = _by_id(thinker)
    groups = [by_id.get(i, g) for i, g in zip(ids, groups, strict=True)]
    words = [text[start:end] for start, end in told["offset_mapping"]]
    inner = layout.ids.tolist()
    if kind != "t":
        video, audio = (thinker.processor.video_token_id, thinker.processor.audio_token_id)
        slot = next(n for n, i in enumerate(ids) if i in (video, audio))
        filled = inner[slot:-1]  # behind it comes the token that closes the media
        ids = [*ids[:slot], *filled, *ids[slot + 1 :]]
        groups = [*groups[:slot], *(by_id[i] for i in filled), *groups[slot + 1 :]]
        marks = (str(m) if by_id[i] == ID["marker"] else "" for i, m in _named(tokenizer, filled))
        words = [*words[:slot], *marks, *words[slot + 1 :]]
    groups[0] = ID["sink"]
    assert ids[: len(layout)] == inner, "the layout is another prompt's"
    seconds = np.full(len(ids) + len(answer), np.nan, np.float32)
    seconds[: len(layout)] = _seconds(thinker, layout, np.asarray(groups[: len(layout)]))
    whole = np.asarray([*groups, *([ID["generated"]] * len(answer))], np.int8)
    return Tokens((*ids, *answer), whole, seconds, (*words, *spelled(tokenizer, answer)), len(ids))


def spelled(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token of a text says; tokens that make up one character together each say that character."""
    out: list[str] = []
    held: list[int] = []
    for i in ids:
        held.append(i)
        said = str(tokenizer.decode(held))
        if not said.endswith("\ufffd") or len(held) == 4:  # bytes in the longest character
            out += [said] * len(held)
            held = []
    return (*out, *[str(tokenizer.decode(held))] * len(held))


def _named(tokenizer: Any, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in set(ids)}
    return ((i, names[i]) for i in ids)


def _first(text: str, start: int, end: int) -> int:
    """Place of a token's first character that is no space (of its first one where there is none)."""
    return next((n for n in range(start, end) if not text[n].isspace()), start)


def _letters(thinker: Thinker, item: Item, kind: Kind, text: str) -> NDArray[np.int8]:
    """Group of each character of the prompt."""
    head, _, tail = chat_text(thinker, structs.replace(item, prompt=MARK), kind).partition(MARK)
    if not (text.startswith(head) and text.endswith(tail)) or len(head) + len(tail) > len(text):
        raise ValueError(f"item {item.id}: the chat format rewrites the question, whose place cannot be told then")
    out = np.full(len(text) + 1, ID["template"], np.int8)  # one more: an empty token at the very end
    start, end = len(head), len(text) - len(tail)
    out[start:end] = ID["instruction"]
    question = text[start:end]
    lines = [m.span() for m in LETTERED.finditer(question)]
    spans = {
        "options": [*(m.span() for m in OPTIONS.finditer(question)), *(lines if len(lines) > 1 else ())],
        "caption": [m.span() for m in CAPTION.finditer(question)],
    }
    for name, found in spans.items():
        for a, b in found:
            out[start + a : start + b] = ID[name]
    return out


def _by_id(thinker: Thinker) -> dict[int, int]:
    """Group of the media tokens and of their markers, by token id: the config's, checked against the tokenizer."""
    p, config = thinker.processor, thinker.model.config
    out: dict[int, int] = {}
    for part, group in (
        ("video", "video"), ("audio", "audio"), ("vision_bos", "marker"), ("vision_eos", "marker"),
        ("audio_bos", "marker"), ("audio_eos", "marker"),
    ):  # fmt: skip
        ours = int(p.tokenizer.convert_tokens_to_ids(getattr(p, f"{part}_token")))
        where = part.replace("_bos", "_start").replace("_eos", "_end") + "_token_id"
        theirs = getattr(config, where, None)  # Qwen3's config names no closing tokens
        if theirs is not None and int(theirs) != ours:
            raise ValueError(
                f"the tokenizer's {part} token is {ours}, the model's is {theirs}: they do not belong together"
            )
        out[ours] = ID[group]
    return out


def _seconds(thinker: Thinker, layout: Layout, groups: NDArray[np.int64]) -> NDArray[np.float32]:
    out = np.full(len(layout), np.nan, np.float32)
    video, audio = groups == ID["video"], groups == ID["audio"]
    if video.any():
        time = layout.positions[0].double().cpu().numpy()[video]
        out[video] = (time - time.min()) / float(thinker.model.config.position_id_per_seconds)
    if audio.any():
        out[audio] = np.arange(audio.sum()) * audio_step(thinker)
    return out


def audio_step(thinker: Thinker) -> float:
    """Seconds of sound in one audio token, by the arithmetic of the audio tower."""
    extractor = thinker.processor.feature_extractor
    mels, tokens = 4, 1  # Qwen2.5: two halvings
    if thinker.family == "qwen3-omni":
        mels = 2 * int(thinker.model.config.audio_config.n_window)
        tokens = audio_tokens(thinker, mels)
    return mels * float(extractor.hop_length) / float(extractor.sampling_rate) / tokens


def counts(groups: NDArray[np.int8]) -> NDArray[np.int64]:
    """Tokens of each group [len(GROUPS)]; padding (-1) is left out."""
    return np.bincount(groups[groups >= 0], minlength=len(GROUPS)).astype(np.int64)
