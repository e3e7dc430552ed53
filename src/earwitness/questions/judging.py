"""What a free-form answer to one of Thud's prompts says (arXiv 2605.16403, Appendix G): a judge made of rules.

Labels, one per answer, always with ``UNPARSED`` and ``REFUSED`` beside them:

- mute:  SILENT / SOUND_DESCRIBED / VISUAL_ONLY
- swap:  MATCH / MISMATCH / VISUAL_ONLY, with the things said to be seen and heard
- shift: SYNC / DELAY / EARLY / DESYNC_NO_DIRECTION, with offset, t_seen and t_heard where stated

Differs from the source: the authors' judges, language models, answer "synced" when in doubt, and score an empty
answer so too. Here doubt is UNPARSED: an answer that claims silence and names a sound, or both sync and delay,
is counted as unscored.

Functions: ``judge_mute``, ``judge_swap``, ``judge_shift`` -> Verdict; ``said`` (things seen and heard) -> pair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from earwitness.questions.lexicon import BACKGROUND, same, sound_words, things
from earwitness.questions.parsing import clean, final_part, parse_yes_no, refuses
from earwitness.questions.timing import shift_verdict
from earwitness.records import REFUSED, UNPARSED


class Verdict(NamedTuple):
    """A label and what else the answer states; times in seconds, offset > 0 = sound late."""

    label: str
    offset: float | None = None
    t_seen: float | None = None
    t_heard: float | None = None
    said_seen: tuple[str, ...] = ()
    said_heard: tuple[str, ...] = ()


# A guess about what one would hear is no report of hearing it.
_WOULD = re.compile(
    r"\b(?:would|expect\w*|typically|usually|normally|suggest\w*|impl(?:y|ies|ied|ying)|likely|probably|presumably"
    r"|should|as if|appears? to|seems? to|seemingly|if there|might|could have|may have|imagine|supposed)\b"
)
_SILENCE = re.compile(
    r"\b(?:silent|silence|soundless|mute|muted|noiseless)\b"
    r"|\b(?:no|any|without(?: any)?|zero)(?: \w+){0,2}? (?:sounds?|audio|noises?)\b(?! of\b| from\b)"
    r"|\b(?:do not|don't|did not|didn't|can ?not|can't|could ?not|couldn't|unable to"
    r"|not able to) (?:\w+ly )?(?:hear|detect"
    r"|perceive|discern|identify) (?:any|anything|sounds?\b|a sound|a thing)"
    r"|\bnothing (?:\w+ )?(?:can be |is |was |to be )?(?:heard|audible|hear)\b|\b(?:hear|heard|hears"
    r"|hearing) nothing\b"
    r"|\b(?:audio|sound|track) (?:track )?(?:is|was|appears to be|seems to be"
    r"|has been) (?:\w+ly )?(?:absent|empty|missing"
    r"|removed|off|blank)\b|\bdevoid of\b|\bnot? audible\b|\binaudible\b"
)
# "Mostly silent", "the man is silent", "then silence": silence of a part is not silence of the track.
_PARTIAL = re.compile(
    r"\b(?:mostly|almost|nearly|relatively|largely|fairly|otherwise|brief\w*|moments? of|periods? of"
    r"|seconds? of|then"
    r"|followed by|before|after|until|falls?|fell|becomes?|goes|went|broken by|breaks?|interrupt\w*"
    r"|at (?:first|times)"
    r"|beginning|start\w*|ends?|ending|man|woman|person|people|he|she|they|dog|cat|not|isn't|n't|never|rather than"
    r"|or) (?:\w+ )?(?:is |are |in |with |the |a |it |by )*(?:completely |totally |entirely )?(?:silent"
    r"|silence|mute)\b"
    r"|\bsilence (?:before|after|until|is broken|at)\b"
)
_EXCEPT = re.compile(
    r"\b(?:except|apart from|aside from|other than|besides|only|just|but|however|although|though|with)\b"
)
# Absence of one kind of sound: neither a sound described nor silence claimed.
_NO_KIND = re.compile(
    r"\b(?:no|without|nor|or|not|any|lacks?|absence of)\b(?:[ ,]+(?:any|audible|discernible|clear"
    r"|background|human|other"
    r"|distinct|noticeable|ambient|sound|and|or|no|nor))*[ ,]+(?:music|speech|voices?|dialogue|talking"
    r"|sound effects?"
    r"|effects?|noises?|ambien\w+|sounds?|conversation|spoken words?|audio|narration|singing|instruments?)"
    r"(?:[ ,]+(?:or|and|nor|no)?[ ,]*(?:music|speech|voices?|dialogue|talking|sound effects?|effects?|noises?"
    r"|ambient noise|ambient sounds?|sounds?|audio|narration|singing|conversation))*"
    r"(?! of\b| from\b|\w)"
)
_SEEING = re.compile(
    r"\b(?:see|sees|seen|shows?|shown|showing|video|visible|visual\w*|picture|image|scene|frames?|depict\w*|wearing"
    r"|looks?|camera|screen|man|woman|person|people|standing|sitting|holding|walking|background|colou?rs?|red|blue|green)\b"
)
_DENIES_TASK = re.compile(
    r"\bas an? (?:ai|artificial|(?:large )?language model|text)\b|\b(?:assist|help) with (?:that|this)\b"
)


def _clauses(text: str) -> list[str]:
    return [c for c in re.split(r"[.;!?\n]+(?!\d)|,|\bbut\b|\bwhile\b|\bhowever\b|\balthough\b", text) if c.strip()]


def judge_mute(text: str, classes: Sequence[str] = ()) -> Verdict:
    """What an answer says about the presence of sound; ``classes`` are names that count as sounds when heard.

    "I cannot hear any audio" is silence, not refusal; "no music and no speech" alone is neither silence nor a
    sound; "the track is silent, though one would expect a bark" is silence.
    """
    raw, _ = final_part(text)
    body = clean(raw)
    if not body:
        return Verdict(UNPARSED)
    closed = re.fullmatch(r"(?:it is |it's |there is |the audio is |answer: )?(\w+)\W*", body)
    word = closed.group(1) if closed else ""
    if word in ("silent", "silence", "mute", "muted", "no", "none", "nothing", "quiet"):
        return Verdict("SILENT")
    if word in ("sound", "yes", "sounds", "noise"):
        return Verdict("SOUND_DESCRIBED")
    starts = re.match(r"(yes|no|silent|sound)\b(?=[\s.,:;!-]|$)", body)
    seen, heard = said(body, classes)
    silent = sounding = False
    for sentence in re.split(r"[.;!?\n]+(?!\d)", body):
        others = _NO_KIND.sub(" ", sentence)
        if _SILENCE.search(sentence) and not _PARTIAL.search(sentence):
            kept, *rest = _EXCEPT.split(others, maxsplit=1)
            silent = True
            # "silent except for a hum": what follows the exception may still be a sound
            parts = [p for p in (kept, *rest) if not _SILENCE.search(p)]
            if (
                "except" in sentence
                or "apart from" in sentence
                or "aside from" in sentence
                or "other than" in sentence
            ):
                if any(_heard_in(p, classes) for p in parts):
                    silent, sounding = False, True
            else:
                sounding = sounding or any(_heard_in(p, classes, strict=True) for p in parts)
        else:
            sounding = sounding or any(_heard_in(c, classes) for c in _clauses(others))
    if starts and not (silent and sounding):
        leans = "SILENT" if starts.group(1) in ("no", "silent") else "SOUND_DESCRIBED"
        if (leans == "SILENT") == (not sounding) or (leans == "SOUND_DESCRIBED" and not silent):
            return Verdict(leans, said_seen=seen, said_heard=heard if leans != "SILENT" else ())
        return Verdict(UNPARSED, said_seen=seen, said_heard=heard)
    if _DENIES_TASK.search(body):
        return Verdict(REFUSED)
    if silent and sounding:
        return Verdict(UNPARSED, said_seen=seen, said_heard=heard)
    if silent:
        return Verdict("SILENT", said_seen=seen)
    if refuses(body) and not heard:
        return Verdict(REFUSED)
    if sounding:
        return Verdict("SOUND_DESCRIBED", said_seen=seen, said_heard=heard)
    if seen or (_SEEING.search(body) and not _NO_KIND.search(body)):
        return Verdict("VISUAL_ONLY", said_seen=seen)
    return Verdict(UNPARSED)


def _heard_in(clause: str, classes: Sequence[str], strict: bool = False) -> bool:
    """Whether a clause reports a sound. ``strict`` asks for a cue of hearing or a named thing's own sound."""
    if _WOULD.search(clause):
        return False
    named = [m for m in things(clause, classes) if not m.denied]
    if strict:
        return bool(_HEAR.search(clause)) and bool(named)
    if _denied_hearing(clause):
        return False
    if _SEE.search(clause) and not (_HEAR.search(clause) or sound_words(clause)):
        return False
    bare = len(clause.split()) <= 4
    return sound_words(_AUDIO_NOUN.sub(" ", clause)) or (bool(named) and (bare or bool(_HEAR.search(clause))))


_AUDIO_NOUN = re.compile(
    r"\b(?:the|this|its|in|of) (?:audio|sound)(?: track)?\b(?= (?:in|of|from|track|is|has)\b|\s*$)"
)


def _denied_hearing(clause: str) -> bool:
    return bool(re.search(r"\b(?:not|n't|never|cannot|unable to|nothing)\b(?! only)", clause)) and not things(
        clause
    )


# --- seen and heard, apart -------------------------------------------------------------------------------------
_HEAR = re.compile(
    r"\b(?:hear|hears|heard|hearing|audio|sounds?|audible|acoustic\w*|soundtrack|listen\w*|noises?|aural\w*|auditory)\b"
)
_SEE = re.compile(
    r"\b(?:see|sees|seen|seeing|shows|show|shown|showing|visible|visuals?|visually|picture|image|frames?|depict\w*"
    r"|on screen|on-screen|footage|watch\w*)\b"
)
_WEAK_SEE = re.compile(r"\b(?:video|scene|clip)\b")
_SAME_SOURCE = re.compile(
    r"^\s*(?:which |that )?(?:and )?(?:is |are )?(?:producing|making|creating|emitting|produces|makes)\b"
)
_CUT = re.compile(
    r"[.;!?\n]+(?!\d)|,|:|\b(?:while|whereas|but|although|though|however|yet)\b"
    r"|\band\b(?=[\w\s,']{0,24}\b(?:hear|hears|heard|hearing|audio|sounds?|audible|see|seen|visual\w*|video)\b)"
)


def said(text: str, classes: Sequence[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The things that a cleaned text claims to see and to hear, each in order of mention.

    Clauses with a word of hearing or of seeing belong to that sense, the next ones without any to the same; an
    opening without either is about what is seen. A thing's own sound word ("barking") makes it heard as well.
    """
    seen: dict[str, None] = {}
    heard: dict[str, None] = {}
    sense = "see"
    last: list[str] = []
    for clause in _CUT.split(_NO_KIND.sub(" ", text)):
        if not clause or not clause.strip() or _WOULD.search(clause):
            continue
        hears, sees = bool(_HEAR.search(clause)), bool(_SEE.search(clause))
        if not hears and not sees and _WEAK_SEE.search(clause):
            sees = True
        sense = "both" if hears and sees else "hear" if hears else "see" if sees else sense
        named = [m for m in things(clause, classes) if not m.denied]
        if _SAME_SOURCE.search(clause) and not named:
            heard.update(dict.fromkeys(last))
        for m in named:
            voiced = sense == "see" and not sees and sound_words(clause[m.start : m.end])
            if sense in ("see", "both"):
                seen[m.option] = None
            if sense in ("hear", "both") or voiced or (sense == "see" and sound_words(clause) and not hears):
                heard[m.option] = None
        last = [m.option for m in named] or last
    return tuple(seen), tuple(heard)


_MISMATCH = re.compile(
    r"\bmis-?match\w*\b|\bmisalign\w*\b|\bincongru\w+\b|\binconsisten\w+\b|\bunrelated\b|\bincompatib\w+\b|\bcontradict\w*\b"
    r"|\bconflict(?:s|ing)?\b|\bout of place\b|\bdiscrepan\w+\b|\bdisconnect\w*\b"
    r"|(?:\b(?:not|never|no longer|fails? to|hardly|cannot)\b|n't)(?: \w+){0,2}? (?:match\w*"
    r"|correspond\w*|fit\w*|align\w*"
    r"|belong|consistent|related|relate|agree|go with|come from|coming from|in line)\b"
    r"|\bnone of the (?:sounds?|audio)\b.{0,20}\b(?:match|fit)\w*|\bdifferent (?:from|than|to) (?:what|the)\b"
    r"|\bdoes not seem to (?:match|fit|come)|\breplaced\b|\bdubbed\b|\banother (?:source|video|clip)\b"
)
_NO_MISMATCH = re.compile(
    r"\b(?:no|not|without|any|never|isn't|aren't)(?: \w+){0,3}? (?:mis-?match\w*|inconsisten\w+"
    r"|discrepan\w+|conflict\w*"
    r"|contradict\w*|unrelated|incongru\w+|out of place|disconnect\w*|misalign\w*)\b"
)
_MATCH = re.compile(
    r"\bmatch(?:es|ed|ing)?\b|\bconsistent\b|\bcorrespond(?:s|ing|ed)?\b|\bin line with\b|\bfits?\b|\bfitting\b"
    r"|\b(?:well |perfectly )aligned\b|\baligns?\b|\bagrees?\b|\bgo(?:es)? (?:well )?with\b|\bcoheren\w+\b"
)
_ASKING = re.compile(r"\b(?:whether|if|to determine|should)\b")


def judge_swap(text: str, classes: Sequence[str] = ()) -> Verdict:
    """What an answer says about sound and picture belonging together; ``classes`` are names to look for.

    Words of mismatch or match decide. Without them: all things heard are among the things seen -> MATCH; none
    of them is -> MISMATCH; some are, or neither side names a known thing -> UNPARSED. Music, speech and hiss
    go with any picture and decide nothing alone. No word on sound at all -> VISUAL_ONLY.
    """
    raw, _ = final_part(text)
    body = clean(raw)
    if not body:
        return Verdict(UNPARSED)
    seen, heard = said(body, classes)
    first = re.match(r"\W*(yes|no)\b", body)
    closed = {"yes": "MATCH", "no": "MISMATCH"}.get(parse_yes_no(first.group(1))) if first else None
    told = {closed} - {None}
    for sentence in re.split(r"[.;!?\n]+(?!\d)", body):
        if _ASKING.search(sentence):
            continue
        rest = _NO_MISMATCH.sub(" ", sentence)
        if rest != sentence:
            told.add("MATCH")
        if _MISMATCH.search(rest):
            told.add("MISMATCH")
            rest = _MISMATCH.sub(" ", rest)
        if _MATCH.search(rest):
            told.add("MATCH")
    if len(told) == 2:
        return Verdict(UNPARSED, said_seen=seen, said_heard=heard)
    if told:
        return Verdict(str(told.pop()), said_seen=seen, said_heard=heard)
    if refuses(body) and not heard:
        return Verdict(REFUSED, said_seen=seen)
    telling = {same(h) for h in heard} - (BACKGROUND - set(seen))
    if telling and seen:
        strange = telling - set(seen)
        label = "MATCH" if not strange else "MISMATCH" if strange == telling else UNPARSED
        return Verdict(label, said_seen=seen, said_heard=heard)
    if not heard and not _HEAR.search(body) and not sound_words(body) and (seen or _SEEING.search(body)):
        return Verdict("VISUAL_ONLY", said_seen=seen)
    return Verdict(UNPARSED, said_seen=seen, said_heard=heard)


@lru_cache(maxsize=1 << 14)  # models say the same few things again and again
def judge_shift(text: str) -> Verdict:
    """What an answer says about timing: label, offset in seconds (> 0 = sound late), t_seen and t_heard."""
    raw, _ = final_part(text)
    body = clean(raw)
    if not body:
        return Verdict(UNPARSED)
    label, offset, t_seen, t_heard = shift_verdict(body)
    if label == UNPARSED and refuses(body):
        return Verdict(REFUSED)
    return Verdict(label, offset, t_seen, t_heard)
