"""The ten most telling items as things to watch: two clips in step, their waveforms, the words, the probabilities.

A :class:`Player` holds what the page shows of one (untouched, intervened) pair: under each clip what the model
said of it, or what each of several models said (:func:`make`'s ``runs``). Clips are read from the run's
``media/`` folder under :func:`export.media_name`; one that is not there is said to be missing, with the reason
where a ``<name>.missing.txt`` gives it. Both waveforms of a pair share one scale, so that silence looks like
silence.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from earwitness.export.files import media_name
from earwitness.media import load_native
from earwitness.questions import plain
from earwitness.records import Clip, Event, Judged, Wave
from earwitness.report.telling import Pair
from earwitness.report.words import LABELS, done_to_clip, protocol_name, style_name

COLUMNS = 360  # waveform resolution: about two per CSS pixel on a phone
HEIGHT = 100.0  # of the waveform's viewBox
MOST_OPTIONS = 5
MOST_MARKS = 24  # more would hide the wave


@dataclass(frozen=True)
class Bar:
    """One option and its probability among the options; ``who`` is whose class it is."""

    name: str
    share: float
    who: str  # "seen", "heard", "both", "other"
    chosen: bool


@dataclass(frozen=True)
class Mark:
    """A moment on the clip's clock, as a share of its length."""

    at: float
    who: str  # "seen" or "heard"
    what: str


@dataclass(frozen=True)
class Reply:
    """What a model said of a clip; ``who`` is its name where there are several."""

    who: str
    said: str
    read_as: str
    right: str | None
    correct: bool | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Side:
    """One of the two clips of a pair, and what was said of it."""

    title: str
    file: str
    src: str | None
    missing: str
    wave: str | None
    silent: bool
    marks: tuple[Mark, ...]
    seen: str
    heard: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class Player:
    """A pair, side by side; ``turn`` says how the second of two models' answers turned out against the first's."""

    protocol: str
    style: str
    prompt: str
    fooled: bool | None
    turn: str
    original: Side
    changed: Side


Runs = Mapping[str, Mapping[str, Judged]]


def make(
    folder: Path, pairs: Sequence[Pair], clips: Mapping[str, Clip], *, embed: bool = False, runs: Runs | None = None
) -> list[Player]:
    """Players of the pairs; clips by relative address, or inside the page where ``embed``.

    ``runs``: name -> its judged items by id, where each clip is to have the answers of several runs under it (the
    ``pairs`` are then the last one's).
    """
    return [_player(folder, before, after, clips, embed, runs or {}) for before, after in pairs]


def _player(
    folder: Path, before: Judged, after: Judged, clips: Mapping[str, Clip], embed: bool, runs: Runs
) -> Player:
    paths = [folder / "media" / media_name(j.item.clip, j.item.intervention) for j in (before, after)]
    waves = [_load(path) for path in paths]
    peak = max((float(np.abs(w).max()) for w, _ in waves if w is not None and w.size), default=0.0)
    sides = []
    for j, path, (wave, seconds) in zip((before, after), paths, waves, strict=True):
        item, clip = j.item, clips.get(j.item.clip)
        known = item.protocol != "benchmark"  # a question file need not say what its clips hold
        sides.append(
            Side(
                title=done_to_clip(item.intervention, item.heard),
                file=path.name,
                src=_source(path, embed),
                missing=_why_missing(path),
                wave=None if wave is None else _outline(wave, peak),
                silent=wave is not None and not wave.any(),
                marks=() if clip is None else tuple(_marks(j, clip.events, seconds)),
                seen=_listed(item.seen, known or bool(clip and clip.seen)),
                heard=_listed(item.heard, known or bool(clip and clip.heard)),
                replies=tuple(_reply(who, of[item.id]) for who, of in runs.items()) or (_reply("", j),),
            )
        )
    item = after.item
    return Player(
        protocol=protocol_name(item.protocol).split(":")[0],
        style=style_name(item.style),
        prompt=item.prompt,
        turn=_turn([of[item.id] for of in runs.values()]),
        fooled=None if after.score.correct is None else not after.score.correct,
        original=sides[0],
        changed=sides[1],
    )


def _reply(who: str, j: Judged) -> Reply:
    return Reply(
        who, (j.answer.text or "").strip(), _words(j.score.label),
        None if j.item.target is None else _words(j.item.target), j.score.correct, tuple(_bars(j)),
    )  # fmt: skip


def _turn(judged: Sequence[Judged]) -> str:
    """ "better" or "worse", where the first answer of several and the last one are not both right or both wrong."""
    if not judged or judged[0].score.correct is judged[-1].score.correct:
        return ""
    return "better" if judged[-1].score.correct else "worse"


def _listed(names: Sequence[str], known: bool) -> str:
    """What there is, in words; empty where that is not known."""
    return ", ".join(plain(n) for n in names) or ("nothing" if known else "")


def _words(label: str) -> str:
    return LABELS.get(label, plain(label))


def _load(path: Path) -> tuple[Wave | None, float]:
    """Mono wave and length in seconds of a file's sound; (None, 0) where there is no readable sound."""
    try:
        loaded = load_native(path)
    except (ValueError, OSError):
        return None, 0.0
    if loaded.wave is None or not loaded.wave.size:
        return None, loaded.duration
    return loaded.wave.mean(0, keepdims=True), loaded.duration or loaded.wave.shape[1] / loaded.rate


def _outline(wave: Wave, peak: float) -> str:
    """SVG path of a wave's envelope in a COLUMNS x HEIGHT box; ``peak`` fills three quarters of it."""
    edges = np.linspace(0, wave.shape[1], min(COLUMNS, wave.shape[1]) + 1).astype(int)
    high = np.maximum.reduceat(wave[0], edges[:-1])
    low = np.minimum.reduceat(wave[0], edges[:-1])
    middle, scale = HEIGHT / 2, 0.45 * HEIGHT / peak if peak > 0 else 0.0
    x = np.linspace(0, COLUMNS, len(high))
    # Never thinner than a hair: a silent stretch is a line, not a gap.
    top = [f"{a:.1f},{middle - max(b * scale, 0.6):.1f}" for a, b in zip(x, high, strict=True)]
    bottom = [f"{a:.1f},{middle - min(b * scale, -0.6):.1f}" for a, b in zip(x, low, strict=True)]
    return "M" + "L".join(top + bottom[::-1]) + "Z"


def _marks(j: Judged, events: Sequence[Event], seconds: float) -> list[Mark]:
    """When the clip's events are seen, and when they are heard after the intervention."""
    iv, out = j.item.intervention, []
    if seconds <= 0:
        return []
    for event in events[:MOST_MARKS]:
        if event.seen is not None and iv.kind not in ("black", "no_frames") and not iv.unseen:
            out.append(Mark(event.seen / seconds, "seen", f"{plain(event.what)} seen at {event.seen:.2f} s"))
        if event.heard is not None and iv.kind in (
            "original",
            "sham",
            "shift",
            "hush",
            "black",
            "freeze",
            "no_frames",
        ):
            at = event.heard + (iv.seconds if iv.kind == "shift" else 0.0)
            out.append(Mark(at / seconds, "heard", f"{plain(event.what)} heard at {at:.2f} s"))
    return [m for m in out if 0 <= m.at <= 1]


def _bars(j: Judged) -> list[Bar]:
    """The likeliest options, and always those seen, heard, right and said; probabilities among all options."""
    logs = {k: v for k, v in (j.answer.logprobs or {}).items() if not math.isnan(v)}
    if not logs or max(logs.values()) == -math.inf:
        return []
    top = max(logs.values())
    weights = {name: math.exp(v - top) for name, v in logs.items()}
    total = sum(weights.values())
    seen, heard = ({plain(n) for n in names} for names in (j.item.seen, j.item.heard))
    named = seen | heard | {plain(j.score.label), plain(j.item.target or "")}
    ranked = sorted(weights, key=lambda name: -weights[name])
    must = [name for name in ranked if plain(name) in named][:MOST_OPTIONS]
    kept = must + [name for name in ranked if name not in must][: max(0, MOST_OPTIONS - len(must))]
    out = []
    for name in sorted(kept, key=lambda name: -weights[name]):
        bare = plain(name)
        who = {(True, True): "both", (True, False): "seen", (False, True): "heard"}.get(
            (bare in seen, bare in heard), "other"
        )
        out.append(Bar(bare, weights[name] / total, who, bare == plain(j.score.label)))
    return out


def _source(path: Path, embed: bool) -> str | None:
    if not path.is_file():
        return None
    if embed:
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    return f"media/{quote(path.name)}"


def _why_missing(path: Path) -> str:
    note = path.with_name(f"{path.stem}.missing.txt")
    return note.read_text(encoding="utf-8", errors="replace").strip() if note.is_file() else ""
