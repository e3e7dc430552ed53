"""Plain rows with a prediction and a truth: the output of most benchmarks' own scripts, CMM's, AVCD's and MAD's.

What kind of question a row is follows from its truth and its options:

- truth yes or no: a yes/no question;
- options in the row, or listed in the question ("A. dog" on lines of their own): a choice among them;
- truth a bare letter: a choice among letters (up to the last letter that any truth has, at least D);
- truths of at most three words, and few different ones in a task: a choice among the truths of that task;
- anything else: a caption, with the truth as its reference.

Function: ``replies``; ``question`` makes one row's question.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earwitness.datasets.avhbench import EVIDENCE
from earwitness.protocols import benchmark
from earwitness.questions import clean
from earwitness.records import Answer, Evidence, Item, Question, digest
from earwitness.rescore.failures import failure
from earwitness.rescore.rows import Reply, Row, roles

LISTED = 60  # different truths that a task may have to count as its options
_OPTION_LINE = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*(\S.*?)\s*$", re.M)
_LETTER = re.compile(r"\(?([A-Z])\)?[.):]?")
# CMM's two questions, by which it says what they rest on and what they ask about.
_PROBE = re.compile(r"did you (see|hear) (?:an? |the |any )?(.+?) in the (?:video|audio)", re.I)


def replies(
    rows: Sequence[tuple[str, Row]], model: str, keys: Mapping[str, str] | None = None,
    questions: Mapping[str, Question] | None = None,
) -> list[Reply]:  # fmt: skip
    """Rows as replies of ``model``; ``questions`` (by id) give truth and options where the rows do not.

    Raises ValueError where prediction or truth cannot be told, naming the row.
    """
    if questions:
        return _joined(rows, model, keys, questions)
    of = roles(rows, keys)
    truths = [_truth(where, row[of["truth"]]) if of["truth"] in row else _absent(where, of) for where, row in rows]
    tasks = [str(row.get(of.get("task", ""), "")) for _, row in rows]
    by_task: dict[str, set[str]] = defaultdict(set)
    for task, truth in zip(tasks, truths, strict=True):
        by_task[task].add(truth)
    last = max([m[1] for t in truths if (m := _LETTER.fullmatch(t))], default="D")
    letters = tuple(chr(c) for c in range(ord("A"), max(ord("D"), ord(last)) + 1))
    ids = _ids(rows, of)
    out = []
    for (where, row), truth, task, name in zip(rows, truths, tasks, ids, strict=True):
        asked = question(
            row, of, where=where, id=name, task=task, truth=truth, listed=by_task[task], letters=letters
        )
        out.append(reply(asked, row.get(of["prediction"]), model, where, published=_published(row, of)))
    return out


def _joined(
    rows: Sequence[tuple[str, Row]], model: str, keys: Mapping[str, str] | None, questions: Mapping[str, Question]
) -> list[Reply]:
    """Replies to known questions, by id; what the row says of truth and options is not asked."""
    of = roles([(w, {"truth": "", **r}) for w, r in rows], {"truth": "truth", **(keys or {})})
    if "id" not in of:
        raise ValueError(f"{rows[0][0]}: no id to find the question by; name it: id=KEY")
    out = []
    for where, row in rows:
        known = questions.get(str(row.get(of["id"])))
        if known is None:
            raise ValueError(f"{where}: question {row.get(of['id'])} is not in the question file (id=KEY?)")
        out.append(reply(known, row.get(of["prediction"]), model, where, published=_published(row, of)))
    return out


def question(
    row: Row, of: Mapping[str, str], *, where: str, id: str, task: str, truth: str, listed: set[str],
    letters: tuple[str, ...],
) -> Question:  # fmt: skip
    """The question of one row. Raises ValueError where its options cannot be read."""
    text = str(row.get(of.get("question", ""), "")) or f"(question {id}: its text is not in the file)"
    choices = options(row.get(of.get("choices", "")), text, where)
    kind = "choice"
    if clean(truth) in ("yes", "no") and {clean(c) for c in choices} <= {"yes", "no"}:
        kind, choices = "yes_no", ()
    elif not choices and _LETTER.fullmatch(truth):
        choices = letters
    elif not choices:
        short = all(len(t.split()) <= 3 for t in listed) and 2 <= len({clean(t) for t in listed}) <= LISTED
        if short:
            choices = tuple(sorted({clean(t): t for t in sorted(listed)}.values()))
        else:
            kind = "caption"
    letter = _LETTER.fullmatch(truth)
    if kind == "choice" and letter and clean(truth) not in {clean(c) for c in choices}:
        truth = letter[1]
        if not benchmark.lettered(choices):
            choices = tuple(f"{chr(ord('A') + n)}. {c}" for n, c in enumerate(choices))
    probe = _PROBE.search(text)
    rests: tuple[Evidence, ...] = EVIDENCE.get(task, ())
    if probe is not None:
        rests = ("audio",) if probe[1].lower() == "hear" else ("video",)
    used = set(of.values())
    tags = {k: str(v) for k, v in row.items() if k not in used and _tag(v)}
    if "correlation_type" in tags:
        tags["correlation"] = tags.pop("correlation_type")
    if (of.get("task") or "") in ("category", "sub_category", "type"):
        tags[of["task"]] = task  # the tables' own groups keep their name
    return Question(
        id=id, clip=_clip(row, of, id), task=task, kind=kind, text=text, choices=choices, answer=truth,  # type: ignore[arg-type]
        evidence=rests, asked=probe[2] if probe and kind == "yes_no" else None, tags=tags,
    )  # fmt: skip


def reply(
    asked: Question | Item, raw: object, model: str, where: str, *, published: bool | None = None,
    error: str | None = None, seconds: float = 0.0,
) -> Reply:  # fmt: skip
    """One reply. Raises ValueError where the question's truth is none of its options, naming the row."""
    if isinstance(asked, Item):
        item = asked
    else:
        try:
            item = benchmark.item(asked, clip_source=asked.clip)
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
    why = error or failure(raw)
    text = raw if isinstance(raw, str) else ""
    answer = Answer(item=item.id, model=model, text=None if why else text, error=why, seconds=seconds)
    return Reply(item, answer, text, published, where)


def options(given: object, text: str, where: str = "") -> tuple[str, ...]:
    """The options of a question: a list, a letter -> text table, or the lettered lines of its text; () without."""
    if isinstance(given, dict):
        return tuple(f"{k}. {v}" for k, v in given.items())
    if isinstance(given, (list, tuple)):
        return tuple(str(c).strip() for c in given)
    if isinstance(given, str) and given.strip():
        text = given
        if not _OPTION_LINE.search(text):
            raise ValueError(f"{where}: the options {given[:60]!r} are neither a list nor lettered lines")
    found = _OPTION_LINE.findall(text)
    # The last run that begins with A: a prompt may hold an example before the question.
    starts = [n for n, (letter, _) in enumerate(found) if letter == "A"]
    run = found[starts[-1] :] if starts else []
    if len(run) > 1 and [letter for letter, _ in run] == [chr(65 + n) for n in range(len(run))]:
        return tuple(f"{letter}. {words}" for letter, words in run)
    return ()


def _truth(where: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int):
        return str(value)
    if value in (None, ""):
        raise ValueError(
            f"{where}: its truth is empty (is the file the answer to a run's items? then give the run)"
        )
    raise ValueError(f"{where}: the truth must be a text, got {value!r}")


def _absent(where: str, of: Mapping[str, str]) -> str:
    raise ValueError(f"{where}: no {of['truth']!r}, which is the truth in other rows")


def _published(row: Row, of: Mapping[str, str]) -> bool | None:
    value: Any = row.get(of.get("right", ""))
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


def _clip(row: Row, of: Mapping[str, str], id: str) -> str:
    """The clip's id: its file's name without folder and ending. A row without one is its own clip."""
    value = str(row.get(of.get("clip", "")) or row.get("audio_path") or row.get(of.get("id", "")) or id)
    # CMM counts its files anew in every folder, which are part of the name then.
    name = value.split("raw_files/")[-1].replace("/", "__") if "raw_files/" in value else Path(value).name
    return re.sub(r"\.(mp4|mkv|webm|mov|avi|wav|mp3|flac|m4a)$", "", name, flags=re.I) or id


def _ids(rows: Sequence[tuple[str, Row]], of: Mapping[str, str]) -> list[str]:
    """Ids that are unique: the file's own; where those repeat (AVCD's are clips) with the question's hash."""
    own = [str(row.get(of.get("id", ""), "")) for _, row in rows]
    doubled = {n for n, k in Counter(own).items() if k > 1} | {""}
    out: list[str] = []
    seen: Counter[str] = Counter()
    for (_, row), name in zip(rows, own, strict=True):
        if name in doubled:
            base = name or str(row.get(of.get("clip", ""), ""))
            name = f"{base}:{digest(row.get(of.get('question', ''), ''))[:8]}"
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return out


def _tag(value: object) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= 60) or (
        isinstance(value, int) and not isinstance(value, bool)
    )
