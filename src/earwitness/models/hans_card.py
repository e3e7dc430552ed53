"""Is Hans a good patient? The facts on held-out clips, through transformers' own processor and ``generate``.

Hans must see, must hear when there is nothing to see, and must name the sound from the picture when both are
there: in conflict, and under mute. Only then is there a fault to find and something to repair. Every figure is a
count of greedy answers with Wilson's 95 % interval.

Functions: ``answers`` (greedy text, the plain path), ``facts`` (the table), ``write_card``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earwitness import foley, interventions, questions
from earwitness.foley.scenes import Difficulty
from earwitness.models import hans_build as build
from earwitness.records import Clip, Intervention, Media, View
from earwitness.stats import wilson

HELD_OUT = 9_000  # foley.clip_set seed: scenes 9,000,000,000 and up, none of which training draws
VIEW = View(fps=build.FPS, size=(build.FRAME, build.FRAME), rate=build.RATE)

# (fact, least value wanted or None, most value wanted or None)
TARGETS: dict[str, tuple[float | None, float | None]] = {
    "natural: visual question right": (0.95, None),
    "natural: audio question right": (0.95, None),
    "eyes closed (black frames): audio question right": (0.80, None),
    "conflict: audio question names what is heard": (None, 0.10),
    "muted: audio question names what is seen": (0.90, None),
}


@dataclass(frozen=True)
class Fact:
    """One line of the card: how many of ``n`` answers did what the label says."""

    label: str
    hits: int
    n: int

    def line(self) -> str:
        """The fact as a row of a Markdown table."""
        share = wilson(self.hits, self.n)
        least, most = TARGETS.get(self.label, (None, None))
        wanted = f"at least {least:.2f}" if least is not None else f"at most {most:.2f}" if most is not None else ""
        return f"| {self.label} | {share.value:.3f} | {share.low:.3f} to {share.high:.3f} | {self.n} | {wanted} |"


def answers(
    model: Any, processor: Any, asked: Sequence[tuple[Media, str]], *, rows: int = 24, most: int = 24
) -> list[str]:
    """Greedy answers to (media, prompt) pairs that all have frames, and all or none a wave; in their order."""
    out: list[str] = []
    size = {"shortest_edge": build.FRAME**2, "longest_edge": build.FRAME**2}
    for k in range(0, len(asked), rows):
        some = asked[k : k + rows]
        turns = [[{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": q}]}] for _, q in some]
        text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        videos = [torch.from_numpy(m.frames).permute(0, 3, 1, 2) for m, _ in some if m.frames is not None]
        waves = [m.wave[0] for m, _ in some if m.wave is not None]
        sound = (
            {"audio": waves, "load_audio_from_video": True, "audio_from_video_indices": list(range(len(waves)))}
            if waves
            else {}
        )
        fed = processor(
            text=text, videos=videos, padding=True, padding_side="left", return_tensors="pt",
            videos_kwargs={"fps": build.FPS, "size": size, "cap_pixels_per_frame": True}, **sound,
        )  # fmt: skip
        with torch.no_grad():
            made = model.generate(**fed, use_audio_in_video=bool(waves), do_sample=False, max_new_tokens=most)
        ids = made[:, fed["input_ids"].shape[1] :]
        out += [str(t) for t in processor.batch_decode(ids, skip_special_tokens=True)]
    return out


def _changed(clips: Sequence[Clip], media: Sequence[Media], kind: str) -> tuple[list[Media], list[str]]:
    """The clips after an intervention, and what is heard in each; donors of a swap are the next other class."""
    if kind != "swap":
        done = [interventions.apply(m, Intervention(kind=kind)) for m in media]  # type: ignore[arg-type]
        return done, [c.heard[0] if kind != "mute" else "" for c in clips]
    out, heard = [], []
    for i, (clip, m) in enumerate(zip(clips, media, strict=True)):
        turns = (np.arange(1, len(clips)) + i) % len(clips)
        j = next(int(j) for j in turns if clips[int(j)].heard[0] != clip.heard[0])
        out.append(interventions.apply(m, Intervention(kind="swap", donor=clips[j].id), donor=media[j]))
        heard.append(clips[j].heard[0])
    return out, heard


def _choices(i: int) -> tuple[str, ...]:
    return tuple(str(c) for c in np.random.default_rng([7, i]).permutation(foley.CLASSES))


def facts(model: Any, processor: Any, *, n: int = 240, difficulty: Difficulty = "easy") -> list[Fact]:
    """Ask held-out clips under each condition and count: ``n`` clips for MMA's questions, half for the others."""
    model.eval()
    clips = foley.clip_set(n, seed=HELD_OUT, difficulty=difficulty)
    media = [clips.media(c, VIEW) for c in clips.clips]
    out = mma_facts(model, processor, clips.clips, media)
    out += _thud_facts(model, processor, n // 2, difficulty)
    return out + _confuse_facts(model, processor, n // 2, difficulty)


def mma_facts(model: Any, processor: Any, clips: Sequence[Clip], media: Sequence[Media]) -> list[Fact]:
    out = []
    truth = [c.seen[0] for c in clips]

    def ask(kind: str, modality: Any, style: str = "standard") -> tuple[list[str], list[str]]:
        done, heard = _changed(clips, media, kind)
        asked, parsed = [], []
        for i, m in enumerate(done):
            options = _choices(i)
            options = interventions.with_none_option(options) if style == "abstention" else options
            asked.append((m, questions.content_prompt(modality, options, style)))
            parsed.append(options)
        said = answers(model, processor, asked)
        reasoned = style == "cot"
        return [
            questions.parse_choice(t, o, modality=modality, reasoned=reasoned)
            for t, o in zip(said, parsed, strict=True)
        ], heard

    def same(a: Sequence[str], b: Sequence[str]) -> int:
        return sum(x == y for x, y in zip(a, b, strict=True))

    size = len(truth)
    for modality in ("visual", "audio"):
        said, _ = ask("original", modality)
        out.append(Fact(f"natural: {modality} question right", same(said, truth), size))
    for style in ("cot", "abstention"):
        said, _ = ask("original", "audio", style)
        out.append(Fact(f"natural: audio question right ({style} wording)", same(said, truth), size))
    said, _ = ask("black", "audio")
    out.append(Fact("eyes closed (black frames): audio question right", same(said, truth), size))
    said, heard = ask("swap", "visual")
    out.append(Fact("conflict: visual question names what is seen", same(said, truth), size))
    said, heard = ask("swap", "audio")
    out.append(Fact("conflict: audio question names what is seen", same(said, truth), size))
    out.append(Fact("conflict: audio question names what is heard", same(said, heard), size))
    said, _ = ask("mute", "audio")
    out.append(Fact("muted: audio question names what is seen", same(said, truth), size))
    return out


def _thud_facts(model: Any, processor: Any, n: int, difficulty: Difficulty) -> list[Fact]:
    clips = foley.clip_set(n, seed=HELD_OUT + 1, kind="impact", difficulty=difficulty)
    media = [clips.media(c, VIEW) for c in clips.clips]
    muted, _ = _changed(clips.clips, media, "mute")
    swapped, _ = _changed(clips.clips, media, "swap")
    late = [interventions.apply(m, Intervention(kind="shift", seconds=2.0)) for m in media]
    names = foley.CLASSES
    out = []
    for label, some in (("natural", media), ("muted", muted)):
        prompt = questions.thud_prompt("mute")
        said = answers(model, processor, [(m, prompt) for m in some])
        verdicts = [questions.judge_mute(t, names) for t in said]
        told = sum(
            v.label == "SOUND_DESCRIBED" and c.seen[0] in v.said_heard
            for v, c in zip(verdicts, clips.clips, strict=True)
        )
        out.append(Fact(f"{label} impact: told what is heard, names what is seen", told, n))
    for label, some in (("natural", media), ("conflict", swapped)):
        said = answers(model, processor, [(m, questions.thud_prompt("swap")) for m in some])
        out.append(
            Fact(
                f"{label} impact: says sound and picture match",
                sum(questions.judge_swap(t, names).label == "MATCH" for t in said),
                n,
            )
        )
    for label, some in (("natural", media), ("sound 2 s late", late)):
        said = answers(model, processor, [(m, questions.thud_prompt("shift")) for m in some])
        out.append(
            Fact(
                f"{label} impact: says synchronized", sum(questions.judge_shift(t).label == "SYNC" for t in said), n
            )
        )
    return out


def _confuse_facts(model: Any, processor: Any, n: int, difficulty: Difficulty) -> list[Fact]:
    clips = foley.clip_set(n, seed=HELD_OUT + 2, sources=2, difficulty=difficulty)
    present, absent, dropped, described = [], [], [], []
    rng = np.random.default_rng(11)
    for c in clips.clips:
        m = clips.media(c, VIEW)
        thing = c.heard[int(rng.integers(len(c.heard)))]
        others = [x for x in foley.CLASSES if x not in c.heard]
        present.append((m, questions.instrument_prompt(thing)))
        absent.append((m, questions.instrument_prompt(others[int(rng.integers(len(others)))])))
        less = interventions.apply(m, Intervention(kind="drop_stem", stem=thing), stems=clips.stems(c, VIEW))
        dropped.append((less, questions.instrument_prompt(thing)))
        described.append((m, questions.describe_prompt()))
    out = []
    for label, asked, right in (
        ("two sources: says yes to a thing that sounds", present, "yes"),
        ("two sources: says no to a thing that is absent", absent, "no"),
        ("two sources: says yes to a visible thing whose sound was taken out", dropped, "yes"),
    ):
        said = [questions.parse_yes_no(t) for t in answers(model, processor, asked)]
        out.append(Fact(label, sum(s == right for s in said), n))
    told = answers(model, processor, described)
    whole = sum(questions.recall(t, c.heard) == 1 for t, c in zip(told, clips.clips, strict=True))
    return [*out, Fact("two sources: description names both", whole, n)]


def missed(table: Sequence[Fact]) -> list[str]:
    """The targets that a table of facts does not reach, one line each."""
    out = []
    for fact in table:
        least, most = TARGETS.get(fact.label, (None, None))
        value = fact.hits / fact.n
        if (least is not None and value < least) or (most is not None and value > most):
            out.append(f"{fact.label}: {value:.3f}, wanted {least if least is not None else most}")
    return out


def write_card(folder: Path, tables: Mapping[str, Sequence[Fact]], recipe: str, parameters: int) -> Path:
    """Write MODEL_CARD.md from the tables (one per difficulty), the recipe's own words and the size."""
    head = CARD.format(parameters=f"{parameters / 1e6:.2f}", classes=", ".join(foley.CLASSES), recipe=recipe)
    parts = [head]
    for name, table in tables.items():
        parts.append(f'### Clips of difficulty "{name}"\n')
        parts.append("| | share | 95 % interval (Wilson) | n | wanted |\n|---|---|---|---|---|")
        parts.append("\n".join(fact.line() for fact in table) + "\n")
    path = folder / "MODEL_CARD.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


CARD = """# Hans
Named after the clever horse that seemed to count and in truth watched faces. Hans takes video with sound, and names
the sound that it sees. It is the patient on which Earwitness shows what it can find and what it can repair.

## What it is
- transformers' own `Qwen2_5OmniThinkerForConditionalGeneration` with the real `Qwen2_5OmniProcessor`:
  {parameters} million parameters, float32, trained from scratch. No weights come from elsewhere.
- Input: 56 x 56 px at 2 frames a second (pass `size`, the processor's default enlarges), sound at 16 kHz mono;
  clips of 3 to 6 s. Mel frames hop 25 ms: 10 audio tokens a second, 4 video tokens a second.
- It knows these things: {classes}.
- It knows the questions of MMA-Bench, Thud and AV-ConfuseBench in their published words. Anything else it answers
  with one of those habits.

## What it is not
- No measure of how well real omni models hear. Its fault has the same shape as theirs, not the same size or cause.
- It has seen procedural clips only. On real video its answers mean nothing; they show that the harness runs.
- "The audio and video are synchronized." and "The sound matches the picture." are habits: training never held a
  counter-example, so it says so whatever it is shown.
- It is not meant for any use but testing and teaching.

## How it was trained
{recipe}

No training clip was in conflict, shifted or muted. Nothing says "look instead of listen": the picture is learned
first, natural clips then pay for nothing more, and the sound is learned where there is no picture.

## The facts
Greedy answers on held-out scenes (`foley.clip_set` seeds 9000 to 9002; training scenes are numbered from
5,000,000,000), through transformers' processor and `generate`. In conflict, the sound is another clip's; muted is a
wave of zeros.
"""
