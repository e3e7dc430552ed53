"""What is asked of event labels: tolerances, gates, who listens. Names for ``--set key=value``.

The defaults are those of arXiv 2605.16403 (appendix) where it has any: 0.8 s for what is seen, 0.5 s for what is
heard, frame units of 1 s, shifts of 1.8 to 2.5 s.

Functions: ``wish`` (settings by name), ``read_info``, ``write_info`` (events.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from earwitness import run as runs
from earwitness.datasets.labels import nearest

Sure = Literal["high", "medium", "low"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How events are asked for and when a label is kept.

    ``eps_v``, ``eps_a``: largest pairwise difference, in s, of times seen and heard. ``unit``: of a frame unit, in
    s. ``listeners``: the first so many annotators get video with sound and give all four fields; the others look at
    frame units. ``interval``: how a frame unit is compared, by its middle or by its nearest point ("gap").

    ``refine``: move the time heard to the onset. ``salience``: dB by which a level must rise to count as an onset.
    ``confidence``: the least that a listener must have. ``shift``: directions in which the clip must bear a shift
    of ``shift_band`` s: either, both, or no matter. ``rivals``: what to do where another sound would look in step
    after a shift: note it, or drop the clip. ``given``: count the manifest's own events as one annotator more.

    ``files``: write procedural clips as files (a second or two each); without, there are verdicts and tables, and
    labels only for clips that are files.

    ``what``: name the event by the annotator's words, or by the clip's first seen class. ``resolution``: in s, to
    which times are meant to be stated (heaping is tested against it).
    """

    eps_v: float = 0.8
    eps_a: float = 0.5
    unit: float = 1.0
    listeners: int = 1
    interval: Literal["middle", "gap"] = "middle"
    refine: bool = False
    salience: float = 6.0
    confidence: Sure = "medium"
    shift: Literal["either", "both", "no"] = "either"
    shift_band: tuple[float, float] = (1.8, 2.5)
    rivals: Literal["note", "drop"] = "note"
    given: bool = False
    files: bool = True
    what: Literal["words", "class"] = "words"
    resolution: float = 0.1


KEYS: tuple[str, ...] = Wish.__struct_fields__
_CHOICES = {
    "interval": ("middle", "gap"), "confidence": get_args(Sure), "shift": ("either", "both", "no"),
    "rivals": ("note", "drop"), "what": ("words", "class"),
}  # fmt: skip
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def wish(settings: Mapping[str, str] | None = None, annotators: int | None = None) -> Wish:
    """What is asked for, from names and texts.

    Raises ValueError for unknown names, with the nearest, and for values that cannot be.
    """
    given: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        if key not in KEYS:
            raise ValueError(f"--set {key}: no such setting{nearest(key, KEYS)}; known: {', '.join(KEYS)}")
        text = value.strip().lower()
        if key in _CHOICES and text not in _CHOICES[key]:
            raise ValueError(f"--set {key}={value}: wants {', '.join(_CHOICES[key][:-1])} or {_CHOICES[key][-1]}")
        if key in ("refine", "given", "files"):
            if text not in _YES:
                raise ValueError(f"--set {key}={value}: wants yes or no")
            given[key] = _YES[text]
        else:
            given[key] = [v.strip() for v in text.split(",")] if key == "shift_band" else text
    try:
        made = msgspec.convert(given, Wish, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"--set: {error}") from None
    for key in ("eps_v", "eps_a", "unit", "resolution"):
        if not 0 < getattr(made, key) <= 60:
            raise ValueError(f"--set {key}={getattr(made, key):g}: wants seconds above 0 (milliseconds?)")
    low, high = made.shift_band
    if not 0 < low <= high < 60:
        raise ValueError(f"--set shift_band={low:g},{high:g}: wants seconds, low to high (milliseconds?)")
    if made.interval == "middle" and made.unit / 2 > made.eps_v:
        raise ValueError(
            f"--set unit={made.unit:g}: the middle of the right unit may be {made.unit / 2:g} s from the event, "
            f"and eps_v is {made.eps_v:g}: shorter units, or --set interval=gap"
        )
    if not made.listeners >= 1 or (annotators is not None and made.listeners > annotators):
        raise ValueError(f"--set listeners={made.listeners}: wants 1 to the number of annotators ({annotators})")
    return made


class Info(msgspec.Struct, kw_only=True):
    """``events.json``. ``counts`` are clips by verdict; ``stats`` what each annotator's calls have cost."""

    clips: str
    limit: int | None = None
    seed: int = 0
    annotators: dict[str, str] = {}  # name -> revision
    wish: Wish
    counts: dict[str, int] = {}
    checks: dict[str, list[dict[str, Any]]] = {}  # ear and eye check of each listener
    stats: dict[str, dict[str, float]] = {}
    command: str = ""
    versions: dict[str, str] = {}


def read_info(folder: Path) -> Info | None:
    """``events.json``; None where there is none. Raises RunError where it cannot be read."""
    return runs.read_json(folder / "events.json", Info)


def write_info(folder: Path, info: Info) -> None:
    """Write ``events.json``."""
    runs.write_json(folder / "events.json", info)
