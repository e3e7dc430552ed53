"""Rows as other trainers read them: LLaMA-Factory's sharegpt (SFT and DPO) and ms-swift's JSON lines.

::

    {"messages": [{"role": "user", "content": "<video><audio>..."}, {"role": "assistant", "content": "..."}],
     "videos": [...], "audios": [...]}                                     or "conversations" with from and value
    DPO: "chosen" and "rejected" (LLaMA-Factory), "rejected_response" (ms-swift); GRPO: "solution" (ms-swift)

Such rows carry no truth, so it is taken from where they hide it: the file's name (``..._delay_2.16s.mp4``, arXiv
2605.16403), the letter, the yes or no, or the short answer that the row teaches. A row without these is open.

Function: ``read`` -> :class:`~earwitness.curate.lint.rows.Material`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from earwitness.curate.lint.rows import BRACED, LETTERED, Kind, Material, Sample
from earwitness.datasets.folder import RELEASE
from earwitness.datasets.question_file import QuestionFileError, shelf
from earwitness.datasets.thud_files import truth
from earwitness.questions import clean, parse_letter

CLOSED_AT_MOST = 50  # different short answers: more are names and phrases, no classes
SHORT = 4  # words
_MARKS = re.compile(r"<(?:video|audio|image)>")
_GOLD = re.compile(r"\banswer is:?\s*\(?([A-Z])\b")
_YES_NO = re.compile(r"\W*(yes|no)\b", re.I)
_TIMING = re.compile(r"synchron|delay|align|offset|in sync|out of sync|timing|tempor|early|late\b", re.I)


def read(path: Path, rows: Iterable[Mapping[str, Any]], media: Path | None) -> Material:
    """The rows of a file; their media by path, else below ``media`` or beside the file.

    Raises QuestionFileError with the rows that cannot be read, ten at most.
    """
    samples, wrong = [], []
    for n, row in enumerate(rows, 1):
        try:
            samples.append(_row(f"row {n}", row))
        except ValueError as error:
            wrong.append(f"row {n}: {error}")
    if wrong:
        raise QuestionFileError(path, wrong)
    if any(s.offset for s in samples):  # the names tell offsets: what no name says is in step
        samples = [_timed(s) for s in samples]
    else:
        samples = [replace(s, offset=None) for s in samples]
    short = Counter(s.gold for s in samples if s.kind == "label" and s.task == "")
    if len(short) > min(CLOSED_AT_MOST, len(samples) / 4):
        samples = [replace(s, kind="open", gold=None) if s.kind == "label" and not s.task else s for s in samples]
    names = dict.fromkeys(name for s in samples for name in s.files)
    found = shelf(path, media)
    return Material(
        name=path.name,
        form="preference" if any(s.rejected is not None for s in samples) else "supervised",
        samples=tuple(samples),
        files={n: Path(n) if Path(n).is_file() else found.find(n) for n in names},
    )


def _row(where: str, row: Mapping[str, Any]) -> Sample:
    turns = row.get("messages", row.get("conversations"))
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise ValueError(f"messages wants a list of turns, got {turns!r}")
    asked = [text for t in turns if (text := _said(t, "user", "human")) is not None]
    told = [text for t in turns if (text := _said(t, "assistant", "gpt")) is not None]
    if not asked:
        raise ValueError("has no turn of the user (role user, or from human)")
    if "chosen" in row:
        chosen = _text(row["chosen"])
    else:
        chosen = told[-1] if told else _text(row.get("solution") or "")
    worse = [row[k] for k in ("rejected", "rejected_response", "rejected_messages") if row.get(k) is not None]
    prompt = _MARKS.sub("", "\n".join(asked)).strip()
    videos, audios = (_listed(key, row.get(key)) for key in ("videos", "audios"))
    name = PurePosixPath((videos or audios or [where])[0].replace("\\", "/")).name
    source, offset = truth(name)
    released = RELEASE.fullmatch(source)
    source = released["youtube"] if released else source
    kind, options, place, gold = _closed(prompt, chosen)
    return Sample(
        id=where, source=source, shown=source, media="|".join((*videos, *audios)) or where, prompt=prompt, task="",
        kind=kind, options=options, place=place, gold=gold, chosen=chosen, offset=offset,
        rejected=_text(worse[0]) if worse else None, files=(*videos, *audios),
    )  # fmt: skip


def _said(turn: Mapping[str, Any], *roles: str) -> str | None:
    if turn.get("role", turn.get("from")) not in roles:
        return None
    return _text(turn.get("content", turn.get("value")))


def _text(value: Any) -> str:
    """A text; of a turn its content, of a list of turns the last one's. ValueError for anything else."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, Mapping):
        value = value.get("content", value.get("value"))
    if not isinstance(value, str):
        raise ValueError(f"an answer or a question wants a text, got {value!r}")
    return value.strip()


def _listed(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
        raise ValueError(f"{key} wants a list of paths, got {value!r}")
    return tuple(paths)


def _closed(prompt: str, answer: str) -> tuple[Kind, tuple[str, ...], int | None, str | None]:
    """Kind, options, place and gold that a prompt and its right answer tell."""
    lettered = LETTERED.findall(prompt)
    if len(lettered) > 1:
        letters = [letter for letter, _ in lettered]
        named = set(_GOLD.findall(answer))
        letter = named.pop() if len(named) == 1 else parse_letter(answer, letters)
        place = letters.index(letter) if letter in letters else None
        return "choice", tuple(text for _, text in lettered), place, None if place is None else letter
    braced = BRACED.search(prompt)
    if braced:
        options = tuple(o.strip() for o in braced[1].split(",") if o.strip())
        place = next((n for n, o in enumerate(options) if clean(o) == clean(answer).rstrip(".")), None)
        return "choice", options, place, None if place is None else options[place]
    said = _YES_NO.match(answer)
    if said:
        return "yes_no", ("yes", "no"), None, said[1].lower()
    if answer and len(answer.split()) <= SHORT:
        return "label", (), None, clean(answer).rstrip(".")
    return "open", (), None, None


def _timed(sample: Sample) -> Sample:
    """A row of a file whose names tell offsets; a question on timing then has its truth there."""
    if sample.kind == "choice" or not _TIMING.search(sample.prompt):
        return sample
    offset = sample.offset or 0.0
    gold = "SYNC" if offset == 0 else "DELAY" if offset > 0 else "EARLY"
    return replace(sample, kind="label", gold=gold, options=(), place=None, task="synchrony")
