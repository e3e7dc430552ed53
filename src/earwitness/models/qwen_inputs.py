"""From an item and its media to what an omni thinker is fed: prompts, mel features, patches, token layouts.

A prompt is one user turn: the media, then the question. Four kinds of media, never mixed in a batch:

=====  =================  ==================================================================================
kind   frames / wave      how it is fed
=====  =================  ==================================================================================
av     both               one video slot whose audio tokens lie between its video tokens ("audio in video")
v      frames only        one video slot; there is no audio in it, and no positions are kept free for any
a      wave only          one audio slot
t      neither            text alone
=====  =================  ==================================================================================

A prompt splits after the token that closes its media: what comes before (``Layout``) is the same for all
questions on the same media and is computed once, what comes after is text with consecutive positions.

Functions: ``kind_of``, ``check_media``, ``audio_tokens``, ``media_tokens``, ``chat_text``, ``split_prompt``,
``lay_out``, ``check_interleaved``. What goes through the towers is made in ``qwen_towers``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_wrapped import unwrapped
from earwitness.records import Item, Media, View

Kind = Literal["av", "v", "a", "t"]
Family = Literal["qwen2.5-omni", "qwen3-omni"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything of a prompt up to the end of its media: tokens, 3-D positions, where the media tokens are."""

    kind: Kind
    ids: torch.Tensor  # [P]
    positions: torch.Tensor  # [3, P]: time, height, width
    shift: float  # a later token at index i has position i + shift on all three axes
    video_tokens: int
    audio_tokens: int

    def __len__(self) -> int:
        return int(self.ids.shape[0])


@dataclass(frozen=True, eq=False)
class Thinker:
    """A loaded thinker with its processor, and how this session feeds it."""

    family: Family
    model: Any  # as it was given, in PEFT's wrapper perhaps
    processor: Any
    view: View
    dtype: torch.dtype
    device: torch.device  # where its embeddings compute: what it is called with begins there
    system: str | None
    ends: tuple[int, ...]  # token ids that end an answer
    suppressed: tuple[int, ...]  # media tokens: never generated
    context: int | None = None  # words of a long context that it was ever shown; None: as many as an audit asks
    layouts: dict[object, Layout] = field(default_factory=dict)
    expansions: dict[object, list[int]] = field(default_factory=dict)

    @property
    def bare(self) -> Any:
        """The transformers thinker itself, whose parts are called; an adapter in its layers stays as it is set."""
        return unwrapped(self.model)

    @property
    def block(self) -> int:
        """Pixels of one merged patch's side: frame sizes are rounded to multiples of it."""
        video = self.processor.video_processor
        return int(video.patch_size * video.merge_size)

    @property
    def seconds_per_grid(self) -> float:
        """Seconds between two time steps of the video grid."""
        return float(self.processor.video_processor.temporal_patch_size / self.view.fps)

    @property
    def video_options(self) -> dict[str, object]:
        """What the video processor is always told: arrays carry no frame rate, and its default size enlarges."""
        size = self.view.size
        cap = self.view.max_pixels or (size[0] * size[1] if size else 768 * self.block**2)
        return {
            "fps": self.view.fps,
            "size": {"shortest_edge": self.block**2, "longest_edge": max(cap, self.block**2)},
            "cap_pixels_per_frame": True,
            "do_sample_frames": False,
        }


def kind_of(media: Media) -> Kind:
    """Which of the four kinds the media are."""
    if media.frames is not None:
        return "v" if media.wave is None else "av"
    return "t" if media.wave is None else "a"


def check_media(thinker: Thinker, media: Media) -> None:
    """Refuse media sampled otherwise than this model is fed: it would shift sound against picture.

    Raises
    ------
    ValueError
        Where the sample rate, the number of channels, or the frames' times are not those of the view, or the
        sound is longer than the model's longest input.
    """
    extractor = thinker.processor.feature_extractor
    if media.wave is not None:
        rate = int(extractor.sampling_rate)
        if media.rate != rate:
            raise ValueError(
                f"sound at {media.rate} Hz, but the model hears at {rate} Hz: load with View(rate={rate})"
            )
        if media.wave.ndim != 2 or media.wave.shape[0] != 1:
            raise ValueError(f"a wave of shape {media.wave.shape}, but the model hears mono: [1, samples]")
        if media.wave.shape[1] < 2 * int(extractor.n_fft):
            raise ValueError(f"a sound of {media.wave.shape[1]} samples is too short to be heard")
        if thinker.family == "qwen2.5-omni" and media.wave.shape[1] > extractor.n_samples:
            longest = extractor.n_samples / rate
            raise ValueError(
                f"a sound of {media.wave.shape[1] / rate:.1f} s, but the model hears {longest:.0f} s at most and "
                f"would drop the rest without a word: cut the clip (start, end)"
            )
    if media.frames is not None:
        if media.frames.ndim != 4 or media.frames.shape[0] < 1 or media.frames.dtype != np.uint8:
            raise ValueError(
                f"frames must be uint8 [time, height, width, 3], got {media.frames.dtype} {media.frames.shape}"
            )
        if media.times is not None and len(media.times) > 1:
            step, wanted = float(np.median(np.diff(media.times))), 1 / thinker.view.fps
            if abs(step - wanted) > 0.1 * wanted:
                raise ValueError(
                    f"frames {step:.3f} s apart, but the model is told {thinker.view.fps:g} frames per second "
                    f"(did you load them with another view than model.view?)"
                )


# --- token counts --------------------------------------------------------------------------------------------


def audio_tokens(thinker: Thinker, mels: int) -> int:
    """Audio tokens for a number of mel frames: 25 a second (Qwen2.5), 13 a second (Qwen3).

    Qwen2.5: a convolution of stride 2, then average pooling by 2. Qwen3: three convolutions of stride 2 on
    chunks of 2 n_window frames.
    """
    if thinker.family == "qwen2.5-omni":
        return ((mels - 1) // 2 + 1 - 2) // 2 + 1
    chunk = 2 * int(thinker.model.config.audio_config.n_window)
    per_chunk, rest = chunk, mels % chunk
    for _ in range(3):
        per_chunk, rest = (per_chunk - 1) // 2 + 1, (rest - 1) // 2 + 1
    return rest + mels // chunk * per_chunk


def media_tokens(thinker: Thinker, media: Media) -> tuple[int, int]:
    """Video and audio tokens that media of this shape become, by arithmetic."""
    video = audio = 0
    p = thinker.processor
    if media.frames is not None:
        count, height, width, _ = media.frames.shape
        made = p.video_processor.get_num_of_video_patches(count, height, width, thinker.video_options)
        video = int(made) // int(p.video_processor.merge_size) ** 2
    if media.wave is not None:
        audio = audio_tokens(thinker, _mel_count(thinker, media.wave.shape[1]))
    return video, audio


def _mel_count(thinker: Thinker, samples: int) -> int:
    hop = int(thinker.processor.feature_extractor.hop_length)
    return math.ceil(samples / hop) if thinker.family == "qwen2.5-omni" else samples // hop


# --- prompts -------------------------------------------------------------------------------------------------


def chat_text(thinker: Thinker, item: Item, kind: Kind) -> str:
    """The prompt in the checkpoint's own chat format, with one placeholder for each medium."""
    media = {"av": [{"type": "video"}], "v": [{"type": "video"}], "a": [{"type": "audio"}], "t": []}[kind]
    turns: list[dict[str, object]] = []
    if thinker.system is not None:
        turns.append({"role": "system", "content": [{"type": "text", "text": thinker.system}]})
    turns.append({"role": "user", "content": [*media, {"type": "text", "text": item.prompt}]})
    return str(thinker.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def split_prompt(thinker: Thinker, item: Item, kind: Kind) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids up to and with the token that closes the media, and those after; the placeholder is still one.

    Special tokens never merge with their neighbours, so expanding the placeholder in the ids equals expanding
    it in the text. A text-only prompt is split after its first token.

    Raises
    ------
    ValueError
        Where the question itself contains a media token: the model would take it for a picture or a sound.
    """
    ids = [int(i) for i in thinker.processor.tokenizer(chat_text(thinker, item, kind))["input_ids"]]
    slots = [n for n, i in enumerate(ids) if i in _placeholders(thinker)]
    if len(slots) != (kind != "t"):
        raise ValueError(
            f"item {item.id}: {len(slots)} media placeholders in the prompt where {int(kind != 't')} belongs "
            f"(a media token such as {thinker.processor.video_token} in the question?)"
        )
    cut = slots[0] + 2 if slots else 1
    return tuple(ids[:cut]), tuple(ids[cut:])


def _placeholders(thinker: Thinker) -> set[int]:
    p = thinker.processor
    return {int(p.video_token_id), int(p.audio_token_id), int(p.image_token_id)}


def expand(thinker: Thinker, kind: Kind, grid: tuple[int, int, int] | None, audio: int) -> list[int]:
    """Token ids that stand in the media slot: video and audio tokens, interleaved by the family's own rule."""
    key = (kind, grid, audio)
    if key not in thinker.expansions:
        p = thinker.processor
        merge = int(p.video_processor.merge_size)
        if kind == "a":
            ids = [int(p.audio_token_id)] * audio
        elif grid is None:
            ids = []
        elif kind == "v":
            ids = [int(p.video_token_id)] * (math.prod(grid) // merge**2)
        else:
            text = p.replace_video_with_audio_token(
                {"video_grid_thw": np.array([grid]), "video_second_per_grid": [thinker.seconds_per_grid]},
                0,
                {"num_audio_tokens": [audio]},
                0,
                position_id_per_seconds=p.position_id_per_seconds,
                seconds_per_chunk=p.seconds_per_chunk,
            )
            ids = [int(i) for i in p.tokenizer(text)["input_ids"]]
        thinker.expansions[key] = ids
    return thinker.expansions[key]


def lay_out(
    thinker: Thinker, before: tuple[int, ...], kind: Kind, seen: Seen | None, heard: Heard | None
) -> Layout:
    """The shared part of a prompt: its tokens and their 3-D positions, made once per shape of the media."""
    grid, mels = (None if seen is None else seen.grid), (None if heard is None else heard.mels)
    key = (before, kind, grid, mels)
    if key not in thinker.layouts:
        audio = 0 if mels is None else audio_tokens(thinker, mels)
        slot = len(before) - 2
        ids = list(before) if kind == "t" else [*before[:slot], *expand(thinker, kind, grid, audio), before[-1]]
        full = torch.tensor(ids)
        positions, shift = _positions(thinker, full, kind, grid, mels)
        p = thinker.processor
        thinker.layouts[key] = Layout(
            kind=kind,
            ids=full.to(thinker.device),
            positions=positions.to(thinker.device),
            shift=shift,
            video_tokens=int((full == p.video_token_id).sum()),
            audio_tokens=int((full == p.audio_token_id).sum()),
        )
    return thinker.layouts[key]


def _positions(
    thinker: Thinker, ids: torch.Tensor, kind: Kind, grid: tuple[int, int, int] | None, mels: int | None
) -> tuple[torch.Tensor, float]:
    """Positions [3, P] of the ids by the model's own rule, checked, and the shift of what follows them.

    The text goes on from the last chunk of media, which need not hold the highest position: where the sound ends
    before the picture (or a frame is more patches wide than its sound is long), it begins below that. The shift
    is therefore read off the text itself; ``get_rope_index``'s own delta counts from the highest position.
    """
    tail = torch.full((2,), int(thinker.processor.tokenizer.pad_token_id or 0))  # stands for the text to come
    longer = torch.cat([ids, tail])[None]
    made, _ = thinker.bare.get_rope_index(
        longer,
        None,
        None if grid is None else torch.tensor([grid]),
        torch.ones_like(longer),
        kind == "av",
        None if mels is None else torch.tensor([mels]),
        None if grid is None else torch.tensor([thinker.seconds_per_grid]),
    )
    positions = made[:, 0]
    shift = float(positions[0, len(ids)]) - len(ids)
    after = torch.arange(len(ids), len(ids) + 2) + shift
    if not torch.equal(positions[:, len(ids) :].double(), after.double().expand(3, -1)):
        raise ValueError("the text behind the media has no consecutive positions: this prompt cannot be split")
    if kind == "av":
        check_interleaved(thinker, ids, positions[:, : len(ids)])
    return positions[:, : len(ids)], shift


def check_interleaved(thinker: Thinker, ids: torch.Tensor, positions: torch.Tensor) -> None:
    """Make sure that sound and picture share one clock: positions [3, P] of ids [P], padding left out.

    With ``use_audio_in_video`` forgotten nothing raises in the model; sound and picture just follow one another
    in time. Here both must start at the same time. (So that, with as many positions a second for sound as for
    picture, the last position is lower than the number of tokens.)

    Raises
    ------
    ValueError
        Where they do not.
    """
    p = thinker.processor
    time = positions[0].double()
    video, audio = time[ids == p.video_token_id], time[ids == p.audio_token_id]
    shared = len(video) > 0 and len(audio) > 0 and float(video.min()) == float(audio.min())
    if not shared:
        raise ValueError(
            "sound and picture have no common clock in this prompt: the model was called without "
            "use_audio_in_video=True"
        )
