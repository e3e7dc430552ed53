"""AV-ConfuseBench: does the model hear an instrument that it only sees? (arXiv 2511.10059)

Audio-muted: several things sound, one stem is left out, and "Is there a/an X sound?" is asked. Audio-modified:
the whole sound is replaced by wind, bird, rain, an electric drill or thunder, and the clip is to be described.

=========  ==========================  ===========================  ==============================
condition  what is done                asked                        right answer
=========  ==========================  ===========================  ==============================
full       nothing                     each thing that sounds       yes (the positive control)
muted      one stem left out           the thing left out           no
muted      one stem left out           each thing still sounding    yes
modified   sound replaced              describe what is seen, heard  names the new sound as heard
full       nothing                     describe what is seen, heard  names the clip's own sound
=========  ==========================  ===========================  ==============================

Differs from the source: there every right answer is "no", so that always-"no" scores 100 %; here the positive
controls allow accuracy on yes and on no, d' and bias. The published question announces the corruption ("leading");
"neutral" is the same question without the announcement. The thing is named with its article, not "thera a".
A background is not put on a clip that shows or sounds like it: naming it would prove nothing.

Functions: ``items``, ``tables``, ``skipped``; for who makes items one by one ``instrument_item``,
``description_items`` and ``fitting_backgrounds``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.interventions import backgrounds, right_answer
from earwitness.protocols.confuse_tables import tables
from earwitness.protocols.making import finish, limited
from earwitness.protocols.settings import Settings
from earwitness.questions import answer_choices, clean, describe_prompt, instrument_prompt, same
from earwitness.records import Clip, Intervention, Item, digest, how_many

NAME = "av_confuse"
MODIFIED_CLIPS = 20  # section 3: the sound of 20 videos is replaced, by each of five
DECODE, DECODE_OPEN = 16, 128


def sounding(clip: Clip) -> tuple[str, ...]:
    """The heard classes that have a stem of their own, as the stems spell them."""
    heard = {clean(h) for h in clip.heard}
    return tuple(s for s in clip.stems if clean(s) in heard)


def _choirs(clips: Sequence[Clip], settings: Settings) -> list[Clip]:
    return limited([c for c in clips if len(sounding(c)) > 1], settings.clip_limit, settings.seed)


def _describable(clips: Sequence[Clip], settings: Settings) -> list[Clip]:
    limit = min(MODIFIED_CLIPS, settings.clip_limit or MODIFIED_CLIPS)
    return limited([c for c in clips if c.seen and c.heard], limit, settings.seed)


def fitting_backgrounds(clip: Clip, settings: Settings) -> list[str]:
    """The backgrounds asked for that the clip neither shows nor sounds like; ValueError for unknown ones."""
    own = {same(n) for n in (*clip.seen, *clip.heard)}
    known = list(backgrounds())
    wanted = list(settings.backgrounds) or known
    unknown = [b for b in wanted if b not in known]
    if unknown:
        raise ValueError(f"backgrounds: {unknown[0]!r} is not known; known: {', '.join(known)}")
    return [b for b in wanted if same(b) not in own]


def skipped(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """In plain words: the clips without two stems, and those without labels to describe."""
    lines = []
    n = sum(len(sounding(c)) < 2 for c in clips)
    if n and "muted" in settings.confuse_conditions:
        lines.append(
            f"av-confuse: {n} of {how_many(len(clips), 'clip')} have no two heard things with stems: nothing to "
            "leave out"
        )
    n = sum(not (c.seen and c.heard) for c in clips)
    if n and "modified" in settings.confuse_conditions:
        lines.append(
            f"av-confuse: {n} of {how_many(len(clips), 'clip')} lack a seen or a heard class: sound not replaced"
        )
    return lines


def items(clips: Sequence[Clip], settings: Settings) -> list[Item]:
    """All items of the protocol, clip by clip, items on the same media one after the other."""
    muted = {c.id for c in _choirs(clips, settings)}
    described = (
        {c.id for c in _describable(clips, settings)} if "modified" in settings.confuse_conditions else set()
    )
    out: list[Item] = []
    for clip in clips:
        if clip.id in muted:
            out += _instruments(clip, settings)
        if clip.id in described:
            out += description_items(clip, settings)
    return out


def _instruments(clip: Clip, settings: Settings) -> Iterator[Item]:
    things = sounding(clip)
    dropped: list[str | None] = [None] if "full" in settings.confuse_conditions else []
    dropped += list(things) if "muted" in settings.confuse_conditions else []
    for stem in dropped:
        for thing in things:
            for style in settings.confuse_styles:
                yield instrument_item(clip, stem, thing, style)


def instrument_item(clip: Clip, stem: str | None, thing: str, style: str) -> Item:
    """Is there a sound of ``thing``, with ``stem`` left out (None: with all of them)?"""
    iv = Intervention() if stem is None else Intervention(kind="drop_stem", stem=stem)
    truth = None if stem is None else "no" if thing == stem else "yes"
    return finish(
        Item(
            id="",
            protocol=NAME,
            condition="full" if stem is None else "muted",
            question="muted",
            style=style,
            clip=clip.id,
            source=clip.cluster,
            group=digest(NAME, clip.id, "muted", style, clean(thing)),
            intervention=iv,
            prompt=instrument_prompt(thing, style),
            choices=answer_choices("muted", style),
            target=right_answer(iv.kind, "audio", "yes", "no", truth),
            evidence=("audio",),
            absent="no",
            seen=clip.seen,
            heard=tuple(h for h in clip.heard if stem is None or clean(h) != clean(stem)),
            asked=thing,
            decode=DECODE,
        )
    )


def description_items(clip: Clip, settings: Settings) -> Iterator[Item]:
    """What is seen and heard: untouched, and under each background that fits."""
    replaced: list[str | None] = [None] if "full" in settings.confuse_conditions else []
    replaced += fitting_backgrounds(clip, settings)
    for name in replaced:
        iv = (
            Intervention() if name is None else Intervention(kind="background", background=name, seed=settings.seed)
        )
        yield finish(
            Item(
                id="",
                protocol=NAME,
                condition="full" if name is None else "modified",
                question="modified",
                style="standard",
                clip=clip.id,
                source=clip.cluster,
                group=digest(NAME, clip.id, "modified"),
                intervention=iv,
                prompt=describe_prompt(),
                target=right_answer(iv.kind, "audio", "HEARD", None, None if name is None else "HEARD"),
                evidence=("audio",),
                seen=clip.seen,
                heard=clip.heard if name is None else (name,),
                asked=name,
                decode=DECODE_OPEN,
            )
        )


__all__ = ["NAME", "items", "skipped", "tables"]
