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
    rf"|(?:\bat|@|\bt ?[=:])\s*(?:about|around|approximately|roughly|~"
    rf"|t ?=)?\s*(?P<place>{_NUMBER})"
    rf"(?:\s*(?:s|seconds?)?\s*(?:-|to|~)\s*(?P<phigh>{_NUMBER})\s*-?\s*(?P<punit>{_UNIT})"
    rf"|(?![\d:%]|[.,]\d|\s*[-\w]*\s*(?:fps|hz|%)))"
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
        unit = m["runit"] or m["unit"] or m["wunit"] or m["punit"] or "s"
        scale = 0.001 if unit.startswith("m") else 1.0
        if m["min"]:
            value = int(m["min"]) * 60 + float(m["sec"])
        elif m["low"]:
            value = (_float(m["low"]) + _float(m["high"])) / 2 * scale
        elif m["phigh"]:
            value = (_float(m["place"]) + _float(m["phigh"])) / 2 * scale
        elif m["word"]:
            value = _NUMBER_WORDS[m["word"]] * scale
        else:
            value = _float(m["num"] or m["place"]) * scale
        out.append(Stated(value, m.start(), m.end()))
    return out


# Who is late: the nearest word of hearing or seeing before the word of order ("the sound lags", "seen before").
_HEARD = r"audio|sounds?|soundtrack|noise|thud|heard|hear|hears|hearing|audible|acoustic\w*|listen\w*|loud"
_SEEN = r"video|visuals?|visually|picture|image|frames?|footage|seen|see|sight|visible|shown|on-screen|on screen"
_SUBJECT = re.compile(rf"\b(?:(?P<a>{_HEARD})|(?P<v>{_SEEN}))\b")
_ORDER = re.compile(
    r"\b(?:(?P<late>delayed|delay|delays|late|later|lags?|lagging|lagged|trails?|trailing)|(?P<behind>behind)"
    r"|(?P<after>after|follows?|following)"
    r"|(?P<early>early|earlier|ahead|leads?|leading|precedes?|preceding|preceded|prematurely|premature"
    r"|too soon|sooner"
    r"|in advance|followed)|(?P<before>before|prior to))\b"
)
# "after the roof breaks" orders two sights; "after the visible impact", or "2 s after." orders sound and picture.
_OBJECT = re.compile(
    rf"^(?: the| its| it is| it| what is| we| you)?(?: \w+){{0,2}}?[ ](?:{_HEARD}|{_SEEN})\b|^\W*$|^[,)]"
    r"|^ (?:about |around |roughly |approximately |by |~)*[\d.]+"
)
_REFERENCE = re.compile(
    r"\b(?:relative to|compared (?:to|with)|with respect to|in relation to|versus|vs\.?|than) (?:the |its )?"
    r"(?:video|visuals?|picture|audio|sound)(?: (?:track|stream|event|action|content|impact)s?)?"
)
_ECHO = re.compile(
    r"\b(?:audio )?(?:delayed|late) or (?:the )?(?:audio )?(?:is )?early\b"
    r"|\b(?:audio )?early or (?:the )?(?:audio )?(?:is )?"
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
    r"(?:synchroni[sz]ed|synced|in sync(?:hrony|hroni[sz]ation)?|synchronous|aligned|simultaneous\w*|line[sd]? up"
    r"|lining up)"
)
_DESYNC = re.compile(
    rf"(?:\b(?:not|never|no longer|hardly)\b|n't)(?: \w+){{0,3}}? {_SYNC_WORD}\b|\bout[- ]of[- ]sync\w*\b"
    rf"|\bde-?sync\w*\b"
    r"|\bun-?synch?\w*\b|\basync\w*\b|\bmis-?align\w*\b|\bnon-?synch?\w*\b|\b(?:lack|loss) of synch\w+\b"
    r"|\bsynchroni[sz]ation (?:mismatch|error|issue|problem|offset)\b|\boff by\b"
    r"|\b(?:temporal|timing|time|audio-visual|noticeable|clear|slight|significant) (?:offset|gap|mismatch"
    r"|discrepancy)\b"
    r"|\bsync(?:hronization|hrony)? (?:mismatch|error|issue|problem|offset|gap)\b|\bclearly off\b|\bfar apart\b"
    r"|\b(?:not|n't) (?:really |quite |fully )?(?:feel |seem |look |appear )?(?:to )?(?:line|lined|lining) up\b"
    r"|\btoo (?:large|far|big|long|great|wide)\b(?:[^.;!?\n]|\.(?=\d)){0,60}\b(?:synch?\w*|aligned"
    r"|natural\w*|tolerance)\b"
    r"|\b(?:outside|beyond|exceeds?)\b[^.;!?\n]{0,40}\btolerance\b|\b(?:lack of|poor) (?:alignment|sync\w*)\b"
    r"|\b(?:noticeable|perceptible|noticed|easy to perceive)\b|\bseparation of\b"
    r"|\bs(?:econds?)? (?:separation|apart)\b"
    r"|\bmismatch\b|\bthere is an? (?:\S+ ){0,3}?(?:offset|gap|delay|lag)\b|\boffset (?:of|is"
    r"|between)\b(?! (?:\w+ )?(?:within|negligible|zero|0)\b)"
)
_NO_OFFSET = re.compile(
    r"\b(?:no|without(?: any)?|not any|zero|any) (?:\w+ ){0,3}?(?:offset|delay|lag|gap|discrepancy"
    r"|mis-?alignment|mismatch"
    r"|de-?sync\w*|desynchroni[sz]ation)(?: or (?:\w+ )?(?:offset|delay|lag|mis-?alignment|mismatch|lead))?\b"
    r"|(?:\b(?:offset|gap|difference|delay|lag) (?:is|of) (?:\S+ ){0,3}?)?\b(?:within|only"
    r"|with) [^.;!?\n]{0,40}\b(?:negligible|natural|normal)\b[^.;!?\n]{0,30}\btolerance\b"
    r"|\b(?:not|isn't|barely|hardly) (?:\w+ )?(?:noticeable|perceptible)\b|\bno (?:noticeable|perceptible)\b"
    r"|\bessentially no (?:gap|offset|delay)\b"
    r"|\b(?:not|n't) (?:\w+ )?(?:out[- ]of[- ]sync|mis-?aligned|desync\w*|unsync\w*)\b|\boffset (?:of|is"
    r"|:) (?:about )?(?:0|zero)\b"
)
_SYNC = re.compile(
    rf"\b{_SYNC_WORD}\b|\bat the same (?:time|moment|instant)\b|\bcoincid\w+\b|\bsync(?:s"
    rf"|ed)? (?:up )?(?:perfectly|well)\b"
    r"|\bperfect(?:ly)? (?:timed|sync)\b|\bexactly when\b"
)
_PLACED = re.compile(
    r"(?:\bat|@|\bt ?[=:]|\btimestamps?|\btime|\bfrom|(?<!by )(?<!of )\b(?:around|near))"
    r"\s*:?\s*(?:about|around|approximately|roughly|the|~|t ?=|\s)*$"
)
_LENGTH_BEFORE = re.compile(  # "the gap is around 2 s", "that puts the offset at roughly 0.4 s"
    r"\b(?:gap|offset|separation|delay|difference|lag|mismatch|interval|discrepancy)(?: is| was| of| at"
    r"| only|:| about"
    r"| around| roughly| approximately)*\s*$"
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
        linking = m["after"] or m["before"] or m["behind"]
        if linking and not _OBJECT.search(after):
            continue
        if m.group() == "later" and re.search(r"\bfollowed\b", before):
            continue
        subjects = list(_SUBJECT.finditer(before))
        subject: re.Match[str] | None
        ahead = re.match(r",?\s*(?:in |of |to )?(?:the |its )?(?:\w+ ){0,1}?" + _SUBJECT.pattern, after)
        if (
            m.group() in ("later", "earlier", "sooner", "delayed", "early", "late")
            and ahead
            and (not subjects or m.group() in ("later", "earlier", "sooner"))
        ):
            subject = ahead
        elif subjects:
            subject = subjects[-1]
        elif linking or m.group() == "followed":
            continue  # "After a moment, ..." orders something else
        else:
            subject = ahead  # "a delay in the audio"; alone ("Delayed by 2 s") it is the sound, as was asked
        sound = subject is None or subject["a"] is not None
        out.add("DELAY" if bool(m["late"] or m["after"] or m["behind"]) == sound else "EARLY")
    return out


def _moments(text: str, times: list[Stated]) -> tuple[float | None, float | None]:
    """When the event is seen and heard, from the times that a text places.

    A time belongs to the sense named right behind it ("at 4.0 s visually"), else to the last named before it. Of
    two times the one without any is the other sense's: "The man lands at 4.0 s, but the thud is heard at 2.1 s".
    """
    seen: list[float] = []
    heard: list[float] = []
    bare: list[float] = []
    last = 0
    for t in times:
        behind = re.match(rf"\s*(?:in the |on the )?(?:(?P<a>audio|sound)|(?P<v>{_SEEN}))\b", text[t.end :])
        before = list(_SUBJECT.finditer(text, last, t.start))
        cue = behind or (before[-1] if before else None)
        (bare if cue is None else heard if cue["a"] else seen).append(t.seconds)
        last = t.end
    if len(bare) == 1 and bool(seen) != bool(heard):
        (heard if seen else seen).append(bare[0])
    return (seen[0] if seen else None), (heard[0] if heard else None)


def shift_verdict(text: str) -> tuple[str, float | None, float | None, float | None]:
    """Label, offset, t_seen and t_heard that a cleaned text states about audio-visual timing.

    Words of order decide the direction; the stated moments do where there are none. Sync and desync claimed at
    once, or both directions, are UNPARSED, unless one concluding sentence ("Therefore ...") settles it. The
    offset is the stated gap with the direction's sign; without one t_heard - t_seen where its sign agrees.
    """
    if re.fullmatch(r"\W*(?:in[ -])?sync\W*", text):
        return "SYNC", None, None, None
    directions: set[str] = set()
    concluded: set[str] = set()
    synced = desynced = False
    gap = loose = None
    seen, heard = _moments(text, [t for t in seconds_in(text) if _is_place(text, t)])
    for sentence in re.split(r"(?<!\bapprox)[.!?](?!\d)|[;\n]", text):
        sentence = _REFERENCE.sub(" ", _ECHO.sub(" ", sentence))
        times = [t for t in seconds_in(sentence) if not _LENGTH.search(sentence[t.end :])]
        placed = [t for t in times if _is_place(sentence, t)]
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


def _is_place(text: str, t: Stated) -> bool:
    """Whether a time is a moment ("at 3.1 s", "0:03", "the 3 s mark") and not a length ("by 2 s", "a 2 s gap")."""
    words, behind = text[t.start : t.end], text[t.end :].lstrip(" -")
    if _LENGTH_BEFORE.search(text[: t.start]):
        return False
    if ":" in words or re.match(r"at\b|@|t\s?[=:]", words) or behind.startswith("mark"):
        return True
    return _PLACED.search(text[: t.start]) is not None and not re.match(
        r"(?:later|apart|away|after|before)\b", behind
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
