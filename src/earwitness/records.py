"""The nouns of Earwitness: frozen, typed, one JSON line each.

What flows: clips -> interventions -> items -> answers -> scores -> tables.

Conventions
-----------
Seconds are float seconds on the clip's clock (t = 0 is the first shown frame), rates are int Hz, waves are
float32 in [-1, 1], probabilities lie in [0, 1]. A positive offset or shift means: sound AFTER picture.
``None`` means "there is no such track"; zeros mean "muted" or "black". These are two different conditions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # [time, height, width, 3], RGB
Times = NDArray[np.float64]  # [time], seconds
Wave = NDArray[np.float32]  # [channels, samples] in [-1, 1]

Evidence = Literal["audio", "video", "sync", "text"]
InterventionKind = Literal[
    "original", "sham", "mute", "no_track", "shift", "hush", "swap", "drop_stem", "background", "black", "freeze",
    "no_frames", "tone", "noise",
]  # fmt: skip
Fill = Literal["silence", "room"]

UNPARSED = "UNPARSED"
REFUSED = "REFUSED"
NONE_OF_THE_ABOVE = "None of the above"


def how_many(n: int, thing: str, things: str = "") -> str:
    """A count with its noun: ``1 clip``, ``2,000 clips``; ``things`` where the plural takes more than an s."""
    return f"{n:,} {thing if n == 1 else things or f'{thing}s'}"


def digest(*parts: object) -> str:
    """Stable 16-hex-digit content hash of the parts' text forms (bytes and arrays by content)."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            h.update(f"{part.dtype}{part.shape}".encode())
            h.update(np.ascontiguousarray(part).data)
        elif isinstance(part, bytes):
            h.update(part)
        else:
            h.update(str(part).encode())
        h.update(b"\x1f")
    return h.hexdigest()[:16]


class Event(msgspec.Struct, frozen=True):
    """One thing that happens: what, when it is seen, when it is heard (seconds; None = not at all)."""

    what: str
    seen: float | None = None
    heard: float | None = None


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A source clip and what is true of it. Never changed in place.

    ``seen`` and ``heard`` are the class labels of what is visible and audible in the untouched clip, the main
    one first. ``stems`` names the parts that the sound can be taken apart into (empty: unknown). ``donors`` are
    the ids of the clips whose sounds this one gets in a swap, the first one first (empty: any may be drawn).
    ``path`` is a media file (absolute, or relative to the labels file); ``foley`` the recipe of a procedural
    clip.
    """

    id: str
    path: str | None = None
    foley: str | None = None
    start: float = 0.0
    end: float | None = None
    seen: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    stems: tuple[str, ...] = ()
    donors: tuple[str, ...] = ()
    source: str = ""  # cluster of the statistics and key of the splits; "" = the clip's own id
    split: str = "test"
    licence: str = "unknown"

    @property
    def cluster(self) -> str:
        """Key by which statistics cluster: the source recording."""
        return self.source or self.id


@dataclass(frozen=True, eq=False)
class Media:
    """A clip in memory, on one clock: t = 0 is the first shown frame, ``wave`` is round(duration * rate) long."""

    frames: Frames | None
    times: Times | None
    wave: Wave | None
    rate: int
    duration: float

    @cached_property
    def video_hash(self) -> str | None:
        """Content hash of frames and times; None without a video track."""
        return None if self.frames is None else digest(self.frames, self.times)

    @cached_property
    def audio_hash(self) -> str | None:
        """Content hash of wave and rate; None without an audio track."""
        return None if self.wave is None else digest(self.wave, self.rate)

    def with_wave(self, wave: Wave | None) -> Media:
        """The same picture (and its hash) with another wave."""
        out = replace(self, wave=wave)
        if "video_hash" in self.__dict__:
            out.__dict__["video_hash"] = self.video_hash
        return out

    def with_frames(self, frames: Frames | None) -> Media:
        """The same sound (and its hash) with other frames at the same times."""
        out = replace(self, frames=frames, times=None if frames is None else self.times)
        if "audio_hash" in self.__dict__:
            out.__dict__["audio_hash"] = self.audio_hash
        return out


class View(msgspec.Struct, frozen=True):
    """How a model wants clips sampled: frames per second, exact (height, width) or a pixel cap, mono rate."""

    fps: float = 2.0
    size: tuple[int, int] | None = None
    max_pixels: int | None = None
    rate: int = 16_000


class ClipSet(Protocol):
    """Clips with their media: Foley from memory or a folder of files."""

    clips: Sequence[Clip]

    def media(self, clip: Clip, view: View) -> Media:
        """Decode (or synthesise) one clip: frames at view.fps and size, wave mono [1, samples] at view.rate."""
        ...

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        """The sound taken apart, each [1, samples]; their sum is the clip's wave. Empty where unknown."""
        ...

    def file(self, clip: Clip, folder: Path) -> Path:
        """A playable media file of the clip (written into ``folder`` where there is none yet)."""
        ...


class Intervention(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to a clip's media, as data. ``interventions.apply`` does it; EFFECT says what it means."""

    kind: InterventionKind = "original"
    seconds: float = 0.0  # shift: > 0 = sound late; hush: so much of its beginning (> 0) or end (< 0) is filled
    fill: Fill = "silence"  # mute, shift, hush: what is put where there is no sound: zeros, or the clip's room tone
    unseen: bool = False  # shift: the picture is black as well: what can be told by ear alone?
    donor: str | None = None  # swap: Clip.id whose sound replaces this clip's
    stem: str | None = None  # drop_stem: name of the stem left out
    background: str | None = None  # background: wind, bird, rain, electric drill, thunder
    seed: int = 0

    @property
    def key(self) -> str:
        """Short readable key, e.g. ``shift+2.10``; equal keys on one clip mean equal media."""
        extra = {
            "shift": f"{self.seconds:+.2f}",
            "hush": f"{self.seconds:+.2f}",
            "swap": f":{self.donor}",
            "drop_stem": f":{self.stem}",
            "background": f":{self.background}",
        }.get(self.kind, "")
        room, dark = "~room" if self.fill == "room" else "", "~unseen" if self.unseen else ""
        return f"{self.kind}{extra}{room}{dark}" + (f"#{self.seed}" if self.seed else "")


class Filler(msgspec.Struct, frozen=True):
    """Random common words around a prompt, as data: how many, where, which (``interventions.filled`` writes them).

    The paper's 10,000 words are 60 KB of text; in every item of a run of 10,000 clips they would be gigabytes.
    """

    words: int
    position: Literal["before", "after"] = "before"
    seed: int = 0


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One question on one clip under one intervention, with the answer that is right.

    ``group`` ties counterfactual twins: items that differ only in what was done to the clip share it.
    ``seen`` and ``heard`` are what is visible and audible AFTER the intervention. ``evidence`` is what the
    question rests on; ``absent`` the right answer when that is gone (None = nothing right can be said).
    """

    id: str
    protocol: str
    condition: str
    question: str
    style: str = "standard"
    seed: int = 0
    clip: str
    source: str
    linked: tuple[str, ...] = ()  # other sources this item leans on (a swap's donor): clusters are merged
    group: str
    intervention: Intervention = Intervention()
    prompt: str
    filler: Filler | None = None  # what the prompt is asked within; its words name no option
    choices: tuple[str, ...] = ()
    target: str | None
    evidence: tuple[Evidence, ...] = ()
    absent: str | None = None
    seen: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    asked: str | None = None  # the thing asked about ("is there a drum sound?")
    offset: float = 0.0  # true audio-visual offset in seconds; > 0 = sound late
    decode: int = 32  # new tokens at most
    task: str = ""  # the question file's own name of the task, where the item comes from one
    tags: dict[str, str] = {}  # what else the question file says of it (domain, split, ...)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a published question file, as that file has it: what ``protocols.benchmark`` makes items of.

    ``text`` is the whole prompt in the benchmark's own words (options and the closing instruction included), and
    ``answer`` the file's truth: one of ``choices``, "yes"/"no", a reference caption, or a label of Thud's tasks.
    """

    id: str  # the file's own id, or its row number: unique within the file
    clip: str  # Clip.id
    task: str  # the file's own name of the task
    kind: Literal["choice", "yes_no", "caption", "mute", "swap", "shift"]
    text: str
    choices: tuple[str, ...] = ()
    answer: str
    intervention: Intervention = Intervention()  # what the file says was done to the clip, where we are to do it
    evidence: tuple[Evidence, ...] = ()
    asked: str | None = None  # the thing whose presence is asked about, or the sound that was put in
    tags: dict[str, str] = {}
    decode: int = 32


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """Receipt: what the model really got, measured after its own preprocessing. None = not fed at all.

    ``measured`` says where: "model", behind the model's own preprocessing; "sent", on the way out to a server: then
    hashes and shapes prove only what was sent, and token counts are the server's own.
    """

    measured: Literal["model", "sent"] = "model"
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    audio_seconds: float | None = None
    audio_rms: float | None = None
    video_tokens: int | None = None
    audio_tokens: int | None = None
    prompt_tokens: int | None = None
    video_hash: str | None = None
    audio_hash: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for an item. An error is never an answer: ``text`` is None then and ``error`` says why."""

    item: str
    model: str
    text: str | None = None
    logprobs: dict[str, float] | None = None  # choice -> natural-log probability of its whole text
    logprob: float | None = None  # natural-log probability of ``text`` itself, where the model gives it
    fed: Fed | None = None
    error: str | None = None
    seconds: float = 0.0


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """An answer judged. ``correct`` None = unscored (failed, unparsed, refused): counted, bounded, not guessed."""

    item: str
    group: str
    condition: str
    label: str  # a choice, a task label such as SILENT, or UNPARSED / REFUSED / ERROR
    correct: bool | None
    offset: float | None = None  # the offset the answer states, seconds; > 0 = sound late
    recall: float | None = None  # keyword recall in [0, 1], where the question is free-form
    said_seen: tuple[str, ...] = ()  # class names the answer claims to see
    said_heard: tuple[str, ...] = ()  # class names the answer claims to hear


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is taught on one item: what to say and, in a preference, what not to say.

    The item is the audit's own noun (clip, intervention, prompt, target, what is seen and heard after it), so that
    what is trained is asked, parsed and scored as in an audit. ``rejected`` None: a supervised row. ``reference``
    is what an audio-only model reasons about the sound when told the truth (RL-CoMM's o_ref), made once, offline.
    """

    id: str
    item: Item
    chosen: str
    rejected: str | None = None
    part: str  # of the mixture: "mma", "mute", "swap", "shift", "ctp", "op", "sp", "general", ...
    why: str = ""  # in words: what makes the chosen answer right and the rejected one wrong
    reference: str = ""


class Estimate(msgspec.Struct, frozen=True):
    """A number with its interval. ``n`` answers in ``clusters`` source clips; low/high at 95 % unless said."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    method: str
    p: float | None = None


Cell = Estimate | float | int | str | None


class Row(msgspec.Struct, frozen=True):
    """One row of a table; ``kind`` "baseline" marks prior-only answerers shown beside the model."""

    label: str
    cells: tuple[Cell, ...]
    kind: Literal["model", "baseline", "reference"] = "model"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a report: ``columns`` name the cells (the row label has no column name of its own)."""

    id: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    unit: Literal["share", "seconds", "count", "score", "mixed"] = "share"


@dataclass(frozen=True)
class Judged:
    """An item with its answer and score: what tables are made of."""

    item: Item
    answer: Answer
    score: Score
