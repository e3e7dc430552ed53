"""What an answer says about time: numbers with units, when things are seen and heard, late or early.

All times are float seconds; an offset is t_heard - t_seen, so > 0 means that the sound comes late (Thud's sign,
arXiv 2605.16403, section 2.1). A number counts as a time only with a unit, a clock form (0:03) or a place
("at 3.1"); a bare sign says nothing, for the prompt defines none.

Functions: ``seconds_in`` (the times a text names), ``shift_verdict`` (label, offset, t_seen, t_heard).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from earwitness.records import UNPARSED

_NUMBER_WORDS = {
    "half a": 0.5, "a half": 0.5, "one and a half": 1.5, "two and a half": 2.5, "a quarter of a": 0.25, "a": 1.0,
    "an": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0,
    "eight": 8.0, "nine": 9.0, "ten": 10.0,
}  # fmt: skip
_WORDS = "|".join(sorted(map(re.escape, _NUMBER_WORDS), key=len, reverse=True))
_NUMBER = r"\d+(?:[.,]\d+)?"
_UNIT = r"(?:milliseconds?|millisecs?|ms|msecs?|seconds?|secs?|s)\b"
_TIME = re.compile(
    rf"(?<![\d:.])(?P<min>\d{{1,2}}):(?P<sec>\d\d(?:\.\d+)?)(?![\d:])"
    rf"|(?<![\w.])(?P<low>{_NUMBER})\s*(?:s|seconds?)?\s*(?:-|to|~)\s*(?P<high>{_NUMBER})\s*-?\s*(?P<runit>{_UNIT})"
    rf"|(?<![\w.])(?P<num>{_NUMBER})\s*-?\s*(?P<unit>{_UNIT})"
    rf"|\b(?P<word>{_WORDS})\s+(?:full )?(?P<wunit>milliseconds?|seconds?|secs?)\b"
    rf"|(?:\bat|@|\bt ?[=:])\s*(?:about|around|approximately|roughly|~|t ?=)?\s*(?P<place>{_NUMBER})(?![\d:%]|\s*[-\w]*\s*(?:fps|hz|%))"
)


class Stated(NamedTuple):
    """A time in a text: its value in seconds and where it stands."""

    seconds: float
    start: int
    end: int


def _float(text: str) -> float:
    return float(text.replace(",", "."))


def seconds_in(text: str) -> list[Stated]:
    """The times that a cleaned text names, in order; a range gives its middle."""
    out = []
    for m in _TIME.finditer(text):
        unit = m["runit"] or m["unit"] or m["wunit"] or "s"
        scale = 0.001 if unit.startswith("m") else 1.0
        if m["min"]:
            value = int(m["min"]) * 60 + float(m["sec"])
        elif m["low"]:
            value = (_float(m["low"]) + _float(m["high"])) / 2 * scale
        elif m["word"]:
            value = _NUMBER_WORDS[m["word"]] * scale
        else:
            value = _float(m["num"] or m["place"]) * scale
        out.append(Stated(value, m.start(), m.end()))
    return out


# Who is late: the nearest word of hearing or seeing before the word of order ("the sound lags", "seen before").
_SUBJECT = re.compile(
    r"\b(?:(?P<a>audio|sounds?|soundtrack|noise|thud|heard|hear|hears|hearing|audible|acoustic\w*|listen\w*)"
    r"|(?P<v>video|visuals?|visually|picture|image|frames?|footage|seen|see|visible|shown|visible))\b"
)
_ORDER = re.compile(
    r"\b(?:(?P<late>delayed|delay|delays|late|later|lags?|lagging|lagged|trails?|trailing|behind)"
    r"|(?P<after>after|follows?|following)"
    r"|(?P<early>early|earlier|ahead|leads?|leading|precedes?|preceding|preceded|prematurely|premature|too soon|sooner"
    r"|in advance)|(?P<before>before|prior to))\b"
)
_REFERENCE = re.compile(
    r"\b(?:relative to|compared (?:to|with)|with respect to|in relation to|versus|vs\.?|than) (?:the |its )?"
    r"(?:video|visuals?|picture|audio|sound)(?: (?:track|stream|event|action|content|impact)s?)?"
)
_ECHO = re.compile(
    r"\b(?:audio )?(?:delayed|late) or (?:the )?(?:audio )?(?:is )?early\b|\b(?:audio )?early or (?:the )?(?:audio )?(?:is )?"
    r"(?:delayed|late)\b|\bneither\b[^.;!?\n]{0,50}?\bnor\b[^.;!?\n]{0,12}"
)
_HYPOTHETICAL = re.compile(r"\b(?:whether|if|to determine|to check|let me|i need to|i will|should be)\b")
_NOT = re.compile(
    r"(?:\b(?:no|not|neither|nor|without|never|isn't|rather than|nor any)\b|n't)(?:[\s\-]+\w+){0,4}[\s\-]*$"
)
_BREAK = re.compile(r"[,;:]|\bbut\b|\bthough\b")
_CONCLUSION = re.compile(
    r"^\W*(?:therefore|thus|so|hence|in conclusion|in summary|overall|conclusion|verdict|direction|finally)\b"
)
_SYNC_WORD = (
    r"(?:synchroni[sz]ed|synced|in sync(?:hrony|hroni[sz]ation)?|synchronous|aligned|simultaneous\w*|lined up)"
)
_DESYNC = re.compile(
    rf"(?:\b(?:not|never|no longer|hardly)\b|n't)(?: \w+){{0,3}}? {_SYNC_WORD}\b|\bout[- ]of[- ]sync\w*\b|\bde-?sync\w*\b"
    r"|\bun-?synch?\w*\b|\basync\w*\b|\bmis-?align\w*\b|\bnon-?synch?\w*\b|\b(?:lack|loss) of synch\w+\b"
    r"|\bsynchroni[sz]ation (?:mismatch|error|issue|problem|offset)\b|\boff by\b"
    r"|\b(?:temporal|timing|time|audio-visual|noticeable|clear|slight|significant) (?:offset|gap|mismatch|discrepancy)\b"
    r"|\bmismatch\b|\bthere is an? (?:\S+ ){0,3}?(?:offset|gap|delay|lag)\b|\boffset (?:of|is|between)\b"
)
_NO_OFFSET = re.compile(
    r"\b(?:no|without(?: any)?|not any|zero|any) (?:\w+ ){0,3}?(?:offset|delay|lag|gap|discrepancy|mis-?alignment|mismatch"
    r"|de-?sync\w*|desynchroni[sz]ation)(?: or (?:\w+ )?(?:offset|delay|lag|mis-?alignment|mismatch|lead))?\b"
    r"|\b(?:not|n't) (?:\w+ )?(?:out[- ]of[- ]sync|mis-?aligned|desync\w*|unsync\w*)\b|\boffset (?:of|is|:) (?:about )?(?:0|zero)\b"
)
_SYNC = re.compile(
    rf"\b{_SYNC_WORD}\b|\bat the same (?:time|moment|instant)\b|\bcoincid\w+\b|\bsync(?:s|ed)? (?:up )?(?:perfectly|well)\b"
    r"|\bperfect(?:ly)? (?:timed|sync)\b|\bexactly when\b"
)
_PLACED = re.compile(
    r"(?:\bat|@|\bt ?[=:]|\btimestamps?|\btime|\bfrom)\s*:?\s*(?:about|around|approximately|roughly|the|~|t ?=|\s)*$"
)
_LENGTH = re.compile(r"^[\s\-]*(?:long\b|clip\b|video\b|duration\b|in (?:length|duration)\b|window\b)")
_GAP_WORD = re.compile(r"\b(?:offset|gap|difference|estimate\w*|by|approximately|about|roughly)\b")
SAME_TIME = 0.1  # stated moments closer than this are one moment: nobody tells them apart


def _orders(sentence: str) -> set[str]:
    """The directions ("DELAY", "EARLY") that a sentence states, denied ones left out."""
    out = set()
    for m in _ORDER.finditer(sentence):
        before, after = sentence[: m.start()], sentence[m.end() :]
        if _NOT.search(_BREAK.split(before)[-1]) or (
            m.group() in ("delay", "lag") and re.match(r" between\b", after)
        ):
            continue
        subjects = list(_SUBJECT.finditer(before))
        ahead = re.match(r",?\s*(?:in |of |to )?(?:the |its )?(?:\w+ ){0,1}?" + _SUBJECT.pattern, after)
        if (
            m.group() in ("later", "earlier", "sooner", "delayed", "early", "late")
            and ahead
            and (not subjects or m.group() in ("later", "earlier", "sooner"))
        ):
            subject = ahead
        elif subjects:
            subject = subjects[-1]
        elif m["after"] or m["before"]:
            continue  # "After a moment, ..." orders something else
        else:
            subject = ahead  # "a delay in the audio"; alone ("Delayed by 2 s") it is the sound, as was asked
        sound = subject is None or subject["a"] is not None
        out.add("DELAY" if bool(m["late"] or m["after"]) == sound else "EARLY")
    return out


def _moments(sentence: str, times: list[Stated]) -> tuple[float | None, float | None]:
    """When a sentence says that the event is seen and heard, from the times that it places."""
    seen = heard = None
    for piece in re.finditer(r"(?:(?!,|;|\bwhile\b|\bbut\b|\bwhereas\b|\band\b).)+", sentence, re.S):
        inside = [t for t in times if piece.start() <= t.start < piece.end()]
        for t in inside:
            words = list(_SUBJECT.finditer(sentence, piece.start(), piece.end()))
            before = [w for w in words if w.start() < t.start]
            word = before[-1] if before else (words[0] if words else None)
            if word is None:
                continue
            if word["a"] and heard is None:
                heard = t.seconds
            elif word["v"] and seen is None:
                seen = t.seconds
    return seen, heard


def shift_verdict(text: str) -> tuple[str, float | None, float | None, float | None]:
    """Label, offset, t_seen and t_heard that a cleaned text states about audio-visual timing.

    Words of order decide the direction; the stated moments do where there are none. Sync and desync claimed at
    once, or both directions, are UNPARSED, unless one concluding sentence ("Therefore ...") settles it. The
    offset is the stated gap with the direction's sign; without one t_heard - t_seen where its sign agrees.
    """
    directions: set[str] = set()
    concluded: set[str] = set()
    synced = desynced = False
    seen = heard = gap = loose = None
    for sentence in re.split(r"(?<!\bapprox)[.!?](?!\d)|[;\n]", text):
        sentence = _REFERENCE.sub(" ", _ECHO.sub(" ", sentence))
        times = [t for t in seconds_in(sentence) if not _LENGTH.search(sentence[t.end :])]
        placed = [t for t in times if _PLACED.search(sentence[: t.start]) or _is_place(sentence, t)]
        at_seen, at_heard = _moments(sentence, placed)
        seen, heard = at_seen if seen is None else seen, at_heard if heard is None else heard
        if _HYPOTHETICAL.search(sentence):
            continue
        rest = _NO_OFFSET.sub(" ", sentence)
        agrees = rest != sentence
        differs = _DESYNC.search(rest) is not None
        agrees = agrees or _SYNC.search(_DESYNC.sub(" ", rest)) is not None
        found = _orders(rest)
        synced, desynced, directions = synced or agrees, desynced or differs, directions | found
        if _CONCLUSION.search(sentence):
            concluded |= found or ({"SYNC"} if agrees and not differs else set())
        gaps = [t.seconds for t in times if t not in placed]
        if gaps and gap is None and (found or differs):
            gap = gaps[0]
        if gaps and loose is None and _GAP_WORD.search(sentence):
            loose = gaps[0]
    label = _settle(directions, concluded, synced, desynced, seen, heard)
    if label not in ("DELAY", "EARLY"):
        return label, None, seen, heard
    sign = 1.0 if label == "DELAY" else -1.0
    gap = loose if gap is None else gap
    if gap is not None:
        return label, sign * gap, seen, heard
    if seen is not None and heard is not None and (heard - seen) * sign > 0:
        return label, round(heard - seen, 6), seen, heard
    return label, None, seen, heard


def _is_place(sentence: str, t: Stated) -> bool:
    words = sentence[t.start : t.end]
    return (
        ":" in words
        or re.match(r"at\b|@|t\s?[=:]", words) is not None
        or sentence[t.end :].lstrip(" -").startswith("mark")
    )


def _settle(
    directions: set[str], concluded: set[str], synced: bool, desynced: bool, seen: float | None, heard: float | None
) -> str:
    if len(concluded) == 1:
        return next(iter(concluded))
    if directions:
        return UNPARSED if len(directions) > 1 or synced else next(iter(directions))
    if synced and desynced:
        return UNPARSED
    if synced:
        return "SYNC"
    if seen is not None and heard is not None:
        if abs(heard - seen) >= SAME_TIME:
            return "DELAY" if heard > seen else "EARLY"
        return UNPARSED if desynced else "SYNC"
    return "DESYNC_NO_DIRECTION" if desynced else UNPARSED
