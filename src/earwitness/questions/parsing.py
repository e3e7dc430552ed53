"""Answers to closed questions: one option of a list, yes or no, a letter.

Three outcomes: an option, ``UNPARSED`` (nothing, or two things at once), ``REFUSED`` (declines to say). What the
readers hold to:

- an ``<answer>`` tag or a "Final Answer:" line, where there is one, is all that counts;
- matching is by whole words, blind to case, underscores, hyphens and plural; the longest option wins
  ("acoustic guitar" is not also "guitar");
- the first sentence that names an option decides; chatter after it is allowed, a second bare option is not;
- a negated option is not named ("no bell but a drum" is drum); two named options are UNPARSED;
- asked what is heard, a clause about what is seen does not count where another names an option, and vice versa.

Functions: ``parse_choice``, ``parse_yes_no``, ``parse_letter``; ``clean``, ``final_part``, ``mentions`` and
``refuses`` are what they and the free-form judge are made of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from earwitness.records import NONE_OF_THE_ABOVE, REFUSED, UNPARSED

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": ";"})
_THINK = re.compile(r"<(think|a-think|v-think|thinking)>.*?(</\1>|\Z)", re.S | re.I)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.S | re.I)
_FINAL = re.compile(r"\bfinal answer\s*(?:is)?\s*[:=]?\s*([^\n]*)", re.I)
_ANSWER_IS = re.compile(
    r"(?:^|[.;!?\n]\s*)(?:so |thus |therefore,? )?(?:(?:the |my )?(?:best |correct |right )?answer(?: is"
    r"|:| would be))"
    r"\s*:?\s*([^\n]+)",
    re.I,
)
# A full stop inside a number ("2.1 s") or an abbreviation ("approx.") ends no sentence.
SENTENCE_END = re.compile(r"(?<!\bapprox)(?<!\be\.g)(?<!\bi\.e)[.!?](?!\d)|[;\n]")

REFUSAL = re.compile(
    r"\bi (?:do not|don't|really don't) know\b|\bno idea\b|\bas an? (?:ai|artificial"
    r"|(?:large )?language model|text)\b"
    r"|\b(?:not|n't|am un|'m un)\s*(?:entirely |really |completely |quite )?(?:sure|certain)\b|\bunsure\b"
    r"|\buncertain\b"
    r"|\b(?:can ?not|can't|could ?not|couldn't|unable to|not able to|impossible to|not possible to|difficult to"
    r"|hard to)\s+(?:\w+ly\s+)?(?:be )?(?:determined?|tell|say|answer|assist|help|process|provide|access"
    r"|verify|assess"
    r"|analy[sz]e|watch|view|listen|play|directly|classify|judge|describe|confirm|comply|fulfil+|hear the audio"
    r"|perceive|evaluate|give)\b"
    r"|\b(?:don't|do not) have (?:the |any )?(?:access|ability|capability|enough)\b"
    r"|\b(?:in|not )(?:sufficient|enough) (?:information|evidence|context|detail)\b"
    r"|\bi(?:'m| am) (?:a )?(?:text|language)\b|\bit(?:'s| is) (?:unclear|impossible)\b|\bi(?:'m| am) unable\b"
    r"|\bi(?:'m| am) sorry\b|\bi apologi[sz]e\b|\b(?:won't|will not) (?:answer|be able)\b|^unknown\b|^n/?a\W*$"
)
# Words before a mention, in the same clause, that say it is NOT the thing.
_NEGATION = re.compile(
    r"(?:\b(?:no|not|never|without|neither|nor|cannot|excluding|absent|lacks?|rather than|instead of|other than"
    r"|unlike|can't)|n't)\b(?! only\b| just\b| doubt\b| problem\b)(?:[\s\-*\"'(]+[\w']+){0,5}[\s\-*\"'(]*$"
)
# Words after it that do.
_DENIED_AFTER = re.compile(
    r"^(?:[\s\-]+(?:sounds?|noise|music|audio|instrument|class))*[\s\-]+(?:(?:is|are|was|were|has been"
    r"|seems|appears)"
    r"[\s\-]+(?:\w+ly[\s\-]+)?(?:not|absent|missing|muted|silent|n't|inaudible)|isn't|aren't|wasn't"
    r"|can ?not be|can't be|does not|doesn't|do not|don't)\b"
)
_CLAUSE_BREAK = re.compile(r"[,;:.!?\n]|\bbut\b|\bhowever\b|\byet\b|\bthough\b|\balthough\b")
_BECAUSE = re.compile(r"\b(?:because|since|as|given|based on|due to|considering|judging by)\b")
_TURN = re.compile(
    r"\b(?:actually|wait|correction|sorry|or rather|on second thought|i mean|alternatively|or maybe)\b"
)
_AUDIO_CUE = re.compile(r"\b(?:audio|sounds?|hear|heard|hearing|audible|acoustic|soundtrack|listen\w*|sonic)\b")
_VISUAL_CUE = re.compile(
    r"\b(?:visual\w*|video|see|seen|seeing|shows?|shown|showing|picture|image|frames?|visible|depict\w*|look\w*"
    r"|on screen|footage)\b"
)
# "There is no sound": for a question on what is heard that offers "None of the above", this is that option.
_ABSENT = {
    "audio": re.compile(
        r"\b(?:no|not any|without|hear nothing|isn't any)\s*(?:\w+ )?(?:sound|audio|noise)|\b(?:is|are"
        r"|was|completely"
        r"|totally|entirely) (?:silent|muted)\b|^(?:silence|silent|mute)\W*$|\b(?:can ?not|can't|do not"
        r"|don't) hear any"
    ),
    "visual": re.compile(
        r"\b(?:no|not any|without)\s*(?:\w+ )?(?:visual|visible|image|picture|video content)|\b(?:black"
        r"|blank) (?:screen"
        r"|frames?|video|image)|\b(?:is|are|completely|entirely) (?:black|blank|dark)\b|^(?:black|blank"
        r"|darkness)\W*$"
        r"|\b(?:can ?not|can't|do not|don't) see any"
    ),
}


@lru_cache(maxsize=8192)  # class names are cleaned again and again
def clean(text: str) -> str:
    """Lower case, plain quotes and dashes, no underscores or Markdown, single spaces; line ends are kept."""
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES).lower().replace("_", " ")
    text = re.sub(r"[*`#>\[\]{}]+", " ", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def final_part(text: str) -> tuple[str, bool]:
    """The part of an answer that counts (raw), and if it was marked: <answer>, "Final Answer:", "The answer is".

    Thinking in <think> tags is dropped, closed or cut off. Two marked answers that differ give both, so that
    readers find two things named.
    """
    tagged = [part.strip() for part in _TAGGED.findall(text)]
    if tagged:
        return "\n".join(dict.fromkeys(tagged)), True
    text = _THINK.sub(" ", text).strip()
    for pattern in (_FINAL, _ANSWER_IS):
        # "**Final Answer:** bell" is common; the marks would hide the words behind them.
        found = pattern.findall(re.sub(r"[*`]+", "", text))
        found = [part.strip() for part in found if part.strip()]
        if found:
            return found[-1], True
    return text, False


def refuses(text: str) -> bool:
    """Whether a cleaned text declines to answer."""
    return REFUSAL.search(text) is not None


class Mention(NamedTuple):
    """An option named in a cleaned text: which, where, and whether the words around it deny it."""

    option: str
    start: int
    end: int
    denied: bool


def singular(word: str) -> str:
    """A word without its plural or possessive s: one rough rule for both sides of a comparison."""
    word = word.removesuffix("'s").strip("'")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2].removesuffix("e")
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word.removesuffix("e") if word.endswith(("se", "ze", "xe", "che", "she")) else word


_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@lru_cache(maxsize=256)
def _forms(options: tuple[str, ...]) -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """First word -> (words, option), longest first; "wind chime" is also met as one word."""
    forms: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for option in options:
        form = tuple(singular(w) for w in _WORD.findall(clean(option)))
        for spelled in {form, ("".join(form),)}:
            if form:
                forms.setdefault(spelled[0], []).append((spelled, option))
    return {first: sorted(some, key=lambda f: -len(f[0])) for first, some in forms.items()}


def mentions(text: str, options: Sequence[str]) -> list[Mention]:
    """Where a cleaned text names which of the options: whole words, plural-blind, the longest match at a place."""
    forms = _forms(tuple(options))
    words = [(singular(m.group()), m.start(), m.end()) for m in _WORD.finditer(text)]
    out, at = [], 0
    while at < len(words):
        for form, option in forms.get(words[at][0], ()):
            if tuple(w[0] for w in words[at : at + len(form)]) == form:
                start, end = words[at][1], words[at + len(form) - 1][2]
                if re.search(r"[.!?\n;]", text[start:end]) and not re.search(r"[.!?;]", option):
                    continue  # "... a bass. Drum ..." does not name the bass drum
                out.append(Mention(option, start, end, _denied(text, start, end)))
                at += len(form) - 1
                break
        at += 1
    return out


def _denied(text: str, start: int, end: int) -> bool:
    before = _CLAUSE_BREAK.split(text[:start])[-1]
    return _NEGATION.search(before) is not None or _DENIED_AFTER.search(text[end:]) is not None


def _spans(text: str, breaks: re.Pattern[str], found: Sequence[Mention] = ()) -> list[tuple[int, int]]:
    """Start and end of the pieces between breaks; breaks inside a mention do not count."""
    inside = [(m.start, m.end) for m in found]
    cuts = [m for m in breaks.finditer(text) if not any(a <= m.start() < b for a, b in inside)]
    starts = [0, *(m.end() for m in cuts)]
    return list(zip(starts, [*(m.start() for m in cuts), len(text)], strict=True))


def _asked_only(text: str, found: list[Mention], modality: str) -> list[Mention]:
    """Mentions outside the clauses that are plainly about the other modality; all, where that leaves none."""
    own, other = (_AUDIO_CUE, _VISUAL_CUE) if modality == "audio" else (_VISUAL_CUE, _AUDIO_CUE)
    clauses = _spans(text, re.compile(r"[,;.!?\n]|\bbut\b|\bwhile\b|\bwhereas\b|\band\b"), found)

    def elsewhere(m: Mention) -> bool:
        clause = next(text[a:b] for a, b in clauses if a <= m.start <= b)
        return other.search(clause) is not None and own.search(clause) is None

    kept = [m for m in found if not elsewhere(m)]
    return kept if any(not m.denied for m in kept) else found


def parse_choice(
    text: str, choices: Sequence[str], *, modality: Literal["visual", "audio"] | None = None, reasoned: bool = False
) -> str:
    """The one option that an answer names, as spelled in ``choices``; UNPARSED or REFUSED otherwise.

    ``modality`` is what was asked for; ``reasoned`` says that the answer may think aloud first, so that only a
    marked final answer, or one of at most six words, counts. A plain "there is no sound" counts as "None of the
    above" where that is offered and the sound was asked for (black screen alike), and as REFUSED where it is not.

    Raises ValueError without choices, or where two of them read the same.
    """
    if not choices or len({clean(c) for c in choices}) != len(choices):
        raise ValueError(f"parse_choice needs options that differ in more than case, got {list(choices)}")
    raw, marked = final_part(text)
    body = clean(raw)
    if not body or (reasoned and not marked and len(body.split()) > 6):
        return UNPARSED
    none = next((c for c in choices if clean(c) == clean(NONE_OF_THE_ABOVE)), None)
    if re.search(r"\bnone of (?:the above|these|the options|the (?:given|listed|provided)|them)\b|^none\W*$", body):
        others = [m for m in mentions(body, [c for c in choices if c != none]) if not m.denied]
        return (none or REFUSED) if not others else UNPARSED
    found = mentions(body, [c for c in choices if c != none])
    if modality:
        found = _asked_only(body, found, modality)
    named = [m for m in found if not m.denied]
    if not named:
        if modality and _ABSENT[modality].search(body):
            return none or REFUSED
        return REFUSED if refuses(body) else UNPARSED
    sentences = _spans(body, SENTENCE_END, found)
    first = next((a, b) for a, b in sentences if a <= named[0].start <= b)
    because = _BECAUSE.search(body, named[0].end, first[1])
    head_end = because.start() if because else first[1]
    head = {m.option for m in named if first[0] <= m.start < head_end}
    if len(head) != 1:
        return UNPARSED
    answer = head.pop()
    for a, b in sentences:  # a second bare option, or a change of mind, takes the first one back
        second = {m.option for m in named if a <= m.start < b and a >= first[1]} - {answer}
        bare = len(re.findall(r"\w+", body[a:b])) <= 1 + max((len(o.split()) for o in second), default=0)
        if second and (bare or _TURN.search(body[a:b])):
            return UNPARSED
    if _TURN.search(body[named[0].end :]) and {m.option for m in named} != {answer}:
        return UNPARSED
    return answer


_YES = re.compile(r"\b(?:yes|yeah|yep|yup|correct|indeed|affirmative)\b")
_NO = re.compile(r"\b(?:no|nope|nah|negative)\b(?! (?:doubt|problem|idea|worries))")
_THERE_NOT = re.compile(
    r"\bthere(?:'s| is| are| was| were)(?: \w+ly)? (?:no|not|n't)\b|\bthere (?:isn't|aren't|wasn't)\b"
    r"|\bno \w+(?: \w+)?"
    r" (?:sound|can be heard|is (?:heard|audible|present))|\b(?:do not|don't|can ?not|can't|did not"
    r"|didn't|could ?not"
    r"|couldn't|unable to) (?:\w+ly )?(?:hear|detect|identify|notice|find|perceive)\b|\b(?:is|are"
    r"|was) (?:\w+ly )?(?:not"
    r"|absent|missing|muted|silent|inaudible)\b|\b(?:isn't|aren't|wasn't|cannot be|can't be) \w+"
)
_THERE = re.compile(
    r"\bthere(?:'s| is| are| was| were)\b|\b(?:can be|is|are|was) (?:\w+ly )?(?:heard|audible|present"
    r"|playing|played)\b"
    r"|\bi (?:can |do |could )?(?:\w+ly )?hear\b|\bsounds? of\b"
)


# "I am not sure if there is a piano" states nothing about the piano.
_OPEN = re.compile(r"\b(?:whether|if|unsure|not sure|uncertain|maybe|perhaps|possibly|might|could be|may be)\b")


def parse_yes_no(text: str, about: str | None = None) -> str:
    """ "yes", "no", UNPARSED or REFUSED. The first word decides; else a plain statement about ``about`` does.

    "Yes, there is a piano sound" is yes; "I do not know" is REFUSED, never no; "yes or no" is UNPARSED;
    "There is a violin but no piano" is no to a piano and says nothing about a flute.
    """
    raw, _ = final_part(text)
    body = clean(raw)
    if not body:
        return UNPARSED
    head = body.lstrip(" -.,:\"'(")
    both = bool(re.search(r"\byes\s*(?:or|and|/|,)\s*no\b|\bno\s*(?:or|/)\s*yes\b", body))
    if both:
        return UNPARSED
    first = re.match(r"(yes|yeah|yep|yup|no|nope|nah)\b(?! (?:doubt|problem|idea|worries))", head)
    if first:
        answer = "yes" if first.group(1).startswith("y") else "no"
        rest = head[first.end() :]
        bare = re.search(r"(?:^|[.;!?\n])\s*(yes|no)\s*(?:[.;!?\n]|$)", rest)
        if bare and bare.group(1) != answer:
            return UNPARSED
        turn = _TURN.search(rest)
        against = (_NO if answer == "yes" else _YES).search(rest, turn.end()) if turn else None
        return UNPARSED if against else answer
    pieces = [body[a:b] for a, b in _spans(body, re.compile(r"[.;!?\n]|\bbut\b|\bwhile\b|,"))]
    pieces = [p for p in pieces if not _OPEN.search(p)]
    if about is not None:
        named = [p for p in pieces if mentions(p, [about])]
        stated = {_stance(p, m) for p in named for m in mentions(p, [about])[:1]} - {""}
        if len(stated) == 1:
            return stated.pop()
        if stated:
            return UNPARSED
    if refuses(body):
        return REFUSED
    if about is None:
        stated = {"no" if _THERE_NOT.search(p) else "yes" if _THERE.search(p) else "" for p in pieces} - {""}
        if len(stated) == 1:
            return stated.pop()
    words = set(re.findall(r"(?:\b(?:say|answer|guess|think|is)\b[\s:,]*|[,;:]\s*)(yes|no)\s*(?:[.,;!\n]|$)", body))
    return str(words.pop()) if len(words) == 1 else UNPARSED


def _stance(piece: str, mention: Mention) -> str:
    """What a clause says about the thing that it names: "yes", "no" or nothing."""
    if mention.denied or _THERE_NOT.search(piece):
        return "no"
    return "yes" if _THERE.search(piece) else ""


def parse_letter(text: str, letters: Sequence[str] = ("A", "B", "C")) -> str:
    """The one letter that an answer gives ("B", "B)", "(B)", "The answer is B."); UNPARSED or REFUSED otherwise.

    The article in "A dog barks" is no answer: a letter counts alone, in brackets, before a mark, at the end, or
    after "answer", "option" or "choice".
    """
    raw, _ = final_part(text)
    body = re.sub(r"[*`\"']+", "", raw).strip()
    any_of = "".join(re.escape(letter) for letter in letters)
    alone = re.fullmatch(rf"\W*([{any_of}])\W*", body, re.I)
    if alone:
        return alone.group(1).upper()
    patterns = (
        rf"(?:^|\n)\s*\(?([{any_of}])\s*[).:\]](?!\w)",
        rf"\(([{any_of}])\)",
        rf"\b(?i:answer|option|choice)(?: is|:)?\s*\(?([{any_of}])\b(?!\s+[a-z])",
        rf"(?:\bor|\band|\bnot|/|,|&)\s+\(?([{any_of}])\)?\s*[.!]?\s*$",
        rf"(?:^|\n)\s*([{any_of}])\s*(?:or|and|/|,|&|-)\s",
        rf"(?:^|\n)\s*([{any_of}])\s*(?:\n|$)",
    )
    found = {m.upper() for pattern in patterns for m in re.findall(pattern, body)}
    if len(found) == 1:
        return str(found.pop())
    return REFUSED if not found and refuses(clean(raw)) else UNPARSED
