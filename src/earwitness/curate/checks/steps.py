"""Gates and witnesses, each in a model's place: a clip is the item, what is measured of it is the answer.

So they are asked as an audit's questions are (:func:`earwitness.audit.ask`, ``ask_many``): decoded once a step,
over several processes or machines, with a log that says what is done. A clip whose file cannot be decoded fails a
check of its own ("decodes"); any other failure leaves its checks untold.

Functions: ``wanted`` (the steps, cheapest first), ``same_clips`` (duplicates among all clips); ``gatekeeper``,
``tagger``, ``classifier`` (what workers load).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from earwitness import media as files
from earwitness import run as runs
from earwitness.audit import Recipe
from earwitness.curate.checks import gates, prints, witnesses
from earwitness.curate.checks.gates_intruders import intruders
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.checks.wishes import Asked
from earwitness.records import Answer, Clip, Intervention, Item, Media, View, digest

HERE = "earwitness.curate.checks.steps"
GATES = "gates"
REVISION = "1"  # of what the steps note down: another one, and all is measured again
HEARD = View(fps=0.1, size=(16, 16), rate=16_000)  # the sound, with next to no picture
SEEN = View(fps=2.0, max_pixels=320 * 320, rate=8_000)
UNREADABLE = "MediaError"
BATCH = 1  # a clip at a time: what is finished is written down at once


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a step is told of a clip."""

    clip: Clip
    limits: gates.Limits | None = None  # of the gates and intruders
    path: str | None = None  # the file itself: containers hide an offset, resampling hides flat tops


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a step says of a clip; ``print`` is what duplicates are told by (gates only)."""

    verdicts: list[Verdict]
    print: prints.Print | None = None


@dataclass(frozen=True)
class Step:
    """One step: its name, how a worker makes who does it, and what its items carry."""

    name: str
    slug: str
    recipe: Recipe
    limits: gates.Limits | None = None
    files: bool = False  # whether it opens the clip's file as well
    chunk: int = BATCH

    def items(self, clips: Sequence[Clip], stamps: Mapping[str, str], root: Path) -> list[Item]:
        """One item a clip."""
        out = []
        for clip in clips:
            path = str((root / clip.path).resolve()) if self.files and clip.path is not None else None
            prompt = msgspec.json.encode(_Asked(clip=clip, limits=self.limits, path=path)).decode()
            out.append(
                Item(
                    id=digest("check", REVISION, self.slug, stamps.get(clip.id, ""), prompt), protocol="curate",
                    condition=self.name, question=self.name, clip=clip.id, source=clip.cluster, group=clip.id,
                    intervention=Intervention(), prompt=prompt, target=None,
                )
            )  # fmt: skip
        return out

    def read(self, item: Item, answer: Answer | None) -> list[Verdict]:
        """The verdicts in an answer; where it failed, one that says so."""
        if answer is None:
            return [Verdict(clip=item.clip, check=self.name, passed=None, why="not asked", by=self.slug)]
        if answer.text is not None:
            return msgspec.json.decode(answer.text, type=Found).verdicts
        why = answer.error or ""
        if UNREADABLE in why:
            said = f"cannot be decoded: {why.partition(f'{UNREADABLE}: ')[2] or why}"
            return [Verdict(clip=item.clip, check="decodes", passed=False, why=said, by=self.slug)]
        said = f"{self.name} failed: {why}"
        return [Verdict(clip=item.clip, check=self.name, passed=None, why=said, by=self.slug)]


def wanted(asked: Asked) -> list[Step]:
    """The steps that are asked for, cheapest first. Raises ValueError for an unknown witness."""
    out = [Step(GATES, GATES, Recipe(f"{HERE}:gatekeeper", {}, gates.REVISION), asked.limits, files=True)]
    # Of the limits the tagger gets its own alone: another one of a gate is no reason to hear all clips again.
    heard = gates.Limits(speech=asked.limits.speech, music=asked.limits.music)
    for name, witness in (("tagger", asked.tagger), ("classifier", asked.classifier)):
        if witness:
            slug = f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '-', witness).strip('-')}-{digest(witness)[:6]}"
            recipe = Recipe(f"{HERE}:{name}", {"witness": witness, "device": asked.device})
            out.append(Step(name, slug, recipe, heard if name == "tagger" else None))
    return out


def same_clips(
    clips: Sequence[Clip], asked: Sequence[Item], home: Path, limits: gates.Limits
) -> dict[str, list[Verdict]]:
    """Which clips are copies of others, from what the gates noted down of them."""
    answers = runs.read_answers(home)
    mine = {c.id for c in clips}
    found: dict[str, prints.Print] = {}
    for item in asked:
        answer = answers.get(item.id)
        if item.clip in mine and answer is not None and answer.text is not None:
            noted = msgspec.json.decode(answer.text, type=Found).print
            if noted is not None:
                found[item.clip] = noted
    out: dict[str, list[Verdict]] = {}
    for verdict in prints.duplicates(found, limits):
        out.setdefault(verdict.clip, []).append(verdict)
    return out


# ---------------------------------------------------------------- the side of the workers


class Checker:
    """Does a step in a model's place; has the audit's Model protocol."""

    abilities: frozenset[str] = frozenset()

    def __init__(self, name: str, revision: str, view: View, do: Callable[[_Asked, Media], Found]) -> None:
        self.name, self.revision, self.view, self._do = name, revision, view, do

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """What was found on each clip, as JSON. Raises what the step raises: the loop makes it a failure."""
        out = []
        for item, seen in zip(items, media, strict=True):
            found = self._do(msgspec.json.decode(item.prompt, type=_Asked), seen)
            out.append(Answer(item=item.id, model=self.name, text=msgspec.json.encode(found).decode()))
        return out


def gatekeeper() -> Checker:
    """The gates, and what duplicates are told by."""
    return Checker(GATES, gates.REVISION, gates.LOOK, _gated)


def _gated(asked: _Asked, media: Media) -> Found:
    clip, probe, native = asked.clip, None, None
    if asked.path is not None:
        with files.demux(Path(asked.path)) as packets:
            probe = files.probe(packets)
            native = files.load_native(packets, start=clip.start, end=clip.end)
    return Found(
        verdicts=gates.gates(clip, media, asked.limits, probe=probe, native=native),
        print=prints.print_of(media),
    )


def tagger(witness: str, device: str = "cpu") -> Checker:
    """A witness that hears: the clip's class, and whoever talks or plays over it."""
    hears = witnesses.open_tagger(witness, device=device)

    def do(asked: _Asked, media: Media) -> Found:
        clip = asked.clip
        moments = None if media.wave is None else hears.moments(media.wave, media.rate)
        own = hears.verdict(clip, media, None if moments is None else moments.max(axis=0))
        return Found(verdicts=[own, *intruders(clip, media, hears, asked.limits, moments)])

    return Checker("tagger", hears.id, HEARD, do)


def classifier(witness: str, device: str = "cpu") -> Checker:
    """A witness that sees."""
    sees = witnesses.open_classifier(witness, device=device)
    return Checker("classifier", sees.id, SEEN, lambda a, m: Found(verdicts=[sees.verdict(a.clip, m)]))
