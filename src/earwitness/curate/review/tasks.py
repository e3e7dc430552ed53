"""The same review in Label Studio: tasks and a labelling configuration out, its JSON export back in as votes.

A task shows the clip's file with one choice a criterion, the verdict, a comment, and a timeline on which each event
has a region ``seen 1`` or ``heard 1`` of one frame. What is claimed goes out as a prediction; Label Studio starts
an annotation from it where "use predictions to prelabel tasks" is on (else an annotator sees no moments, and an
accepting annotation without any is not taken).

Label Studio counts frames from 1 at the task's ``fps``: frame f is shown at (f - 1) / fps. A region that was not
moved keeps the exact time that it came from; a moved one is as exact as a frame. A crop's times are told on its
whole file, which Label Studio plays. Formats: labelstud.io/guide/task_format, /tags/timelinelabels, /tags/choices.

A vote that goes out carries its id, its time and a digest of what it says, in the note on its verdict: where it
comes back as it was, it is that vote; where it was changed there, it is a new one of the time of that change.

Functions: ``write_label_studio``, ``read_label_studio``, ``configuration`` (the XML).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import msgspec

from earwitness import media
from earwitness.curate.review.queue import Case, Queue
from earwitness.curate.review.votes import CRITERIA, ReviewError, Vote, check_vote, spelled
from earwitness.records import Event, digest

TASKS, CONFIG = "tasks.json", "config.xml"
LOCAL = "/data/local-files/?d="  # how Label Studio names files below LOCAL_FILES_DOCUMENT_ROOT
FPS = 25.0  # of a file without pictures
SENSES = {"seen": "#b8500a", "heard": "#0b6fb4"}
# The note on a verdict that went out from here: whose vote, which, from when, and what it said.
NOTE = re.compile(r"by ([^,]+)(?:, vote ([\w-]{8,80}) of ([^,]*), ([0-9a-f]+))?")
MOMENT = re.compile(r"(seen|heard) ([1-9]\d*)")


def configuration(events: int) -> str:
    """The labelling configuration, with regions for ``events`` events and one more."""
    lines = [
        "<View>",
        '  <Header value="$ask"/>',
        '  <Video name="video" value="$video" frameRate="$fps"/>',
        '  <TimelineLabels name="moments" toName="video">',
    ]
    for number in range(1, events + 2):
        lines += [f'    <Label value="{sense} {number}" background="{ink}"/>' for sense, ink in SENSES.items()]
    lines.append("  </TimelineLabels>")
    for name, answers in (*((name, ("yes", "no")) for name in CRITERIA), ("verdict", ("accept", "reject"))):
        title = quoteattr(name.replace("_", " ").capitalize())
        lines += [
            f"  <Header value={title}/>",
            f'  <Choices name="{name}" toName="video" choice="single" showInline="true" required="true">',
            *(f'    <Choice value="{answer}"/>' for answer in answers),
            "  </Choices>",
        ]
    lines += [
        '  <TextArea name="comment" toName="video" rows="2" maxSubmissions="1" placeholder="Comment"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def write_label_studio(
    queue: Queue, out: Path, *, prefix: str | None = None, votes: Mapping[str, Sequence[Vote]] | None = None
) -> int:
    """Write ``tasks.json`` and ``config.xml``; returns how many tasks.

    Parameters
    ----------
    prefix : stands before each clip's path, e.g. ``https://media.example.org/``; default: local file serving with
        the manifest's folder below LOCAL_FILES_DOCUMENT_ROOT.
    votes : also go out, as annotations: not for a blind second reading.

    Raises
    ------
    ValueError
        Where a clip's file cannot be probed (MediaError).
    """
    tasks = [_task(queue, number, case, prefix, votes or {}) for number, case in enumerate(queue.cases, 1)]
    out.mkdir(parents=True, exist_ok=True)
    (out / TASKS).write_bytes(msgspec.json.format(msgspec.json.encode(tasks), indent=1))
    (out / CONFIG).write_text(configuration(queue.events))
    return len(tasks)


def _task(
    queue: Queue, number: int, case: Case, prefix: str | None, votes: Mapping[str, Sequence[Vote]]
) -> dict[str, Any]:
    clip = case.clip
    picture = media.probe(queue.path(clip)).picture
    fps = FPS if picture is None else round(picture.claimed_fps or picture.fps, 4)
    path = Path(os.path.relpath(queue.path(clip), queue.root)).as_posix()
    if prefix is None:
        below = os.path.normpath(f"{queue.root.resolve().name}/{path}")
        if below.startswith(".."):
            raise ValueError(
                f"clip {clip.id}: {queue.path(clip)} lies outside of {queue.root.resolve().parent}, below which "
                "Label Studio serves local files: give --media-prefix, or move the files there"
            )
        place = f"{LOCAL}{quote(Path(below).as_posix())}"
    else:
        place = f"{prefix}{quote(path)}"
    claims = [
        f"{sense}: {', '.join(names)}" for sense, names in (("seen", clip.seen), ("heard", clip.heard)) if names
    ]
    named = [f"{n} {event.what}" for n, event in enumerate(clip.events, 1)]
    ask = " | ".join(
        [*claims, *([f"events: {', '.join(named)}"] if named else []), *([case.why] if case.why else [])]
    )
    task: dict[str, Any] = {
        "id": number,
        "data": {
            "video": place, "fps": fps, "ask": ask or "nothing is claimed of this clip", "clip": clip.id,
            "about": case.about,
        },
        "predictions": [
            {"model_version": "claimed", "result": _regions(f"c{number}", clip.events, clip.start, fps)}
        ],
    }  # fmt: skip
    given = [(name, vote) for name in sorted(votes) for vote in _last(votes[name], case)]
    if given:
        task["annotations"] = [_annotation(number, name, vote, clip.start, fps) for name, vote in given]
    return task


def _last(votes: Sequence[Vote], case: Case) -> list[Vote]:
    mine = [vote for vote in votes if vote.clip == case.clip.id]
    return [vote for vote in mine[-1:] if vote.about == case.about]


def _frame(time: float, start: float, fps: float) -> int:
    """The frame on show at a clip's time, counted from 1 in the whole file."""
    return int((time + start) * fps + 1e-6) + 1


def _regions(key: str, events: Sequence[Event], start: float, fps: float) -> list[dict[str, Any]]:
    out = []
    for number, event in enumerate(events, 1):
        for sense in SENSES:
            time = getattr(event, sense)
            if time is None:
                continue
            frame = _frame(time, start, fps)
            out.append(
                {
                    "id": f"{key}_{sense}_{number}",
                    "from_name": "moments",
                    "to_name": "video",
                    "type": "timelinelabels",
                    "value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": [f"{sense} {number}"]},
                    "meta": {"text": [f"{time:g} s"]},  # the exact time, for a region that is not moved
                }
            )
    return out


def _content(results: Sequence[Mapping[str, Any]]) -> str:
    """Digest of what was chosen, marked and written, whatever else Label Studio keeps beside it."""
    said = sorted((str(r.get("from_name")), msgspec.json.encode(_said(r)).decode()) for r in results)
    return digest(*(part for one in said for part in one))[:12]


def _said(result: Mapping[str, Any]) -> list[Any]:
    value = result.get("value") or {}
    if result.get("type") == "textarea":
        text = value.get("text")
        return [text] if isinstance(text, str) else list(text or ())
    ends = [(end.get("start"), end.get("end")) for end in value.get("ranges") or ()]
    return [*(value.get("choices") or ()), *(value.get("timelinelabels") or ()), *ends]


def _annotation(number: int, name: str, vote: Vote, start: float, fps: float) -> dict[str, Any]:
    key = f"t{number}_{digest(name)[:6]}"

    def choice(control: str, value: str) -> dict[str, Any]:
        return {
            "id": f"{key}_{control}", "from_name": control, "to_name": "video", "type": "choices",
            "value": {"choices": [value]},
        }  # fmt: skip

    said = {criterion: getattr(vote, criterion) for criterion in CRITERIA}
    result = [choice(k, "yes" if v else "no") for k, v in said.items() if v is not None]
    # Label Studio imports no annotator whom it does not know: the name goes where it keeps notes on a result.
    verdict = choice("verdict", "accept" if vote.accept else "reject")
    result.append(verdict)
    if vote.comment:
        result.append(
            {"id": f"{key}_comment", "from_name": "comment", "to_name": "video", "type": "textarea",
             "value": {"text": [vote.comment]}}
        )  # fmt: skip
    result += _regions(key, vote.events, start, fps)
    note = f"by {name}, vote {vote.id} of {vote.at}, {_content(result)}"
    verdict["meta"] = {"text": [note]}
    return {"result": result, "was_cancelled": False, "ground_truth": False, "lead_time": vote.seconds}


# --- back ------------------------------------------------------------------------------------------------------


def read_label_studio(queue: Queue, exported: Path) -> tuple[dict[str, list[Vote]], list[str]]:
    """Annotations of a JSON export as votes by annotator, in its order; and in words what was not taken.

    An annotator is called by ``completed_by``: an e-mail address, or ``user 7``; one whose votes went out from here
    by the own name. Skipped annotations are no votes.

    Raises
    ------
    ValueError
        Where the file is no Label Studio JSON export, or has none of the queue's clips.
    """
    try:
        tasks = msgspec.json.decode(exported.read_bytes(), type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise ValueError(
            f"{exported}: no JSON list of tasks: {error} (export as “JSON”, not “JSON-MIN” or CSV?)"
        ) from None
    except FileNotFoundError:
        raise ValueError(f"{exported}: no such file (Label Studio: Export, JSON)") from None
    out: dict[str, list[Vote]] = {}
    notes: list[str] = []
    known = 0
    for row, task in enumerate(tasks, 1):
        data = task.get("data")
        number = queue.number(str(data.get("clip"))) if isinstance(data, dict) else None
        if not isinstance(data, dict) or number is None:
            notes.append(f"task {task.get('id', row)}: its clip is not in {queue.manifest.name}")
            continue
        known += 1
        for annotation in task.get("annotations") or []:
            where = f"task {task.get('id', row)}, annotation {annotation.get('id', '?')}"
            if annotation.get("was_cancelled"):
                continue
            try:
                name, vote = _vote(queue.cases[number], data, annotation)
                check_vote(vote)
            except (ReviewError, KeyError, TypeError, IndexError, AttributeError) as error:
                said = (
                    str(error)
                    if isinstance(error, ReviewError)
                    else f"{type(error).__name__} {error} (edited by hand?)"
                )
                notes.append(f"{where}: {said}")
                continue
            out.setdefault(name, []).append(vote)
    if not known:
        raise ValueError(f"{exported}: none of its {len(tasks)} tasks is about a clip of {queue.manifest.name}")
    return out, notes


def _vote(case: Case, data: Mapping[str, Any], annotation: Mapping[str, Any]) -> tuple[str, Vote]:
    choices: dict[str, str] = {}
    comment: list[str] = []
    note = None
    for result in annotation["result"]:
        if result.get("type") == "choices":
            choices[result["from_name"]] = result["value"]["choices"][0]
            note = note or NOTE.fullmatch(_noted(result).strip())
        elif result.get("type") == "textarea":
            text = result["value"]["text"]
            comment += [text] if isinstance(text, str) else text
    if choices.get("verdict") not in ("accept", "reject"):
        raise ReviewError("no verdict (accept or reject)")
    accept = choices["verdict"] == "accept"
    moments = dict(_moments(annotation["result"]))
    if accept and case.clip.events and not moments:
        raise ReviewError(
            "accepted without any moment (does the project prelabel tasks with predictions?): not taken"
        )
    fps = float(data["fps"])
    events = _events(case, moments, fps) if moments else case.clip.events
    who = note[1] if note else annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or f"user {who.get('id')}"
    elif not isinstance(who, str):
        who = f"user {who}"
    name = spelled(re.sub(r"[^\w .-]+", " at ", who))
    said = {c: {"yes": True, "no": False}.get(choices.get(c, "")) for c in CRITERIA}
    if note and note[4] == _content(annotation["result"]):
        own, at = note[2], note[3]
    else:
        content = msgspec.json.encode(annotation["result"])
        own = f"ls-{digest(name, case.clip.id, annotation.get('id'), annotation.get('updated_at'), content)}"
        at = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    vote = Vote(
        id=own,
        clip=case.clip.id,
        about=str(data.get("about", "")),
        accept=accept,
        **said,
        events=events,
        comment=" ".join(comment).strip(),
        seconds=max(0.0, float(annotation.get("lead_time") or 0.0)),
        at=at,
    )
    return name, vote


Moment = tuple[int, str]  # frame, and the exact time as written where it went out


def _moments(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, int], Moment]]:
    """(sense, event number) -> first frame of the region, for each region of the timeline."""
    for result in results:
        if result.get("from_name") != "moments":
            continue
        label = MOMENT.fullmatch(result["value"]["timelinelabels"][0])
        if label is None:
            raise ReviewError(f"a moment is called {result['value']['timelinelabels'][0]!r}, wants “seen 1”")
        yield (label[1], int(label[2])), (int(result["value"]["ranges"][0]["start"]), _noted(result))


def _noted(result: Mapping[str, Any]) -> str:
    """The note on a result; "" without one."""
    text = (result.get("meta") or {}).get("text") or [""]
    return str(text[0])


def _events(case: Case, moments: Mapping[tuple[str, int], Moment], fps: float) -> tuple[Event, ...]:
    """Claimed events at their marked times (None where a region was deleted), then those that were added."""
    claimed = case.clip.events
    most = max(len(claimed), *(number for _, number in moments))
    extra = (case.clip.heard or case.clip.seen or ("event",))[0]
    out = []
    for number in range(1, most + 1):
        old = claimed[number - 1] if number <= len(claimed) else Event(extra)
        times: dict[str, float | None] = {"seen": None, "heard": None}
        for sense in SENSES:
            moment = moments.get((sense, number))
            if moment is not None:
                times[sense] = _time(moment, getattr(old, sense), case.clip.start, fps)
        out.append(Event(old.what, times["seen"], times["heard"]))
    return tuple(out)


def _time(moment: Moment, claimed: float | None, start: float, fps: float) -> float:
    """The exact time that the region went out with, where it stands on that frame still; else its frame's."""
    frame, noted = moment
    exact = [float(noted.removesuffix(" s"))] if re.fullmatch(r"\d+(\.\d+)? s", noted) else []
    for time in (*exact, claimed):
        if time is not None and _frame(time, start, fps) == frame:
            return time
    return round((frame - 1) / fps - start, 4)
