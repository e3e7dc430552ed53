"""What a trace says: does attention move with the question, where does the conflict fall, where does it settle?

Everything here is arrays by layer (or layer and head) with intervals over clips, of which :mod:`.tables` makes
tables and the report its charts. It starts from a trace joined to its items (:mod:`.joined`).

- :func:`shares`: how much attention each group of tokens gets, in four measures.
- :func:`moves`: x = log(mass on video / mass on audio), one value per clip and prompt (option orders averaged),
  first under the visual, then under the audio prompt: the sums that :mod:`earwitness.stats.effects` takes d from.
  Above 0: attention moves to the picture when asked about the picture. d of the video is d, d of the audio -d: both
  are shares of one whole, so they cannot have the same sign.
- :func:`token_moves`: the same with the token as unit, which may be what arXiv 2511.22826 did.
- :func:`peak`, :func:`settled`: at which layer, with an interval. :func:`matters`: is a shift large enough?
- :func:`uncertainty`: the layers' entropy under a tampered sound against the same question on the untouched clip.
- :func:`parting`: log p(option seen) - log p(option heard) by layer, where picture and sound disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earwitness import stats
from earwitness.questions import clean
from earwitness.records import Estimate, Item
from earwitness.stats import effects
from earwitness.stats.effects import Band, Sums
from earwitness.stats.intervals import Floats
from earwitness.whitebox.joined import At, Inside, keys
from earwitness.whitebox.joined import Key as Key  # causal tests label their rows with them
from earwitness.whitebox.joined import clusters as clusters
from earwitness.whitebox.moments import GROUPS

VIDEO, AUDIO, SINK, GENERATED = (GROUPS.index(name) for name in ("video", "audio", "sink", "generated"))
TEXT = tuple(n for n, name in enumerate(GROUPS) if name not in ("video", "audio"))
# Less is the rounding of float32 sums, and its logarithm would rule every mean.
LEAST = 1e-12
# Smallest effect of interest, of the mean shift of x: a ratio that changes by a tenth. Less is a regularity,
# however sure: where all clips are alike, p falls without end.
SMALLEST = float(np.log(1.1))
What = tuple[str, str, str]  # protocol, condition, style
Measure = Literal["mass", "without sink", "enrichment", "value"]
SOUND_CHANGED = ("mute", "no_track", "shift", "swap", "drop_stem", "background", "tone", "noise")


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Entropy by layer [L] of the same questions on untouched clips and with the sound tampered with."""

    key: Key  # of the tampered items
    original: Band
    tampered: Band
    change: Band  # tampered - original, pair by pair
    n: int
    clusters: int


@dataclass(frozen=True, eq=False)
class Parting:
    """Where the options seen and heard part: ``gap`` [L] in nats, > 0 = the layer favours the seen one."""

    key: Key
    gap: Band
    settled: Estimate  # layer from which on the mean's sign is that of the last layer
    seen: Estimate  # share of items whose last layer favours the option seen
    n: int
    clusters: int


def shares(inside: Inside, measure: Measure = "mass", at: At = "prompt") -> Floats | None:
    """Each group's part in the attention, mean over layers and heads, text as a whole last: [N, G + 1].

    "mass" adds up to 1, "without sink" to 1 over the other groups. "enrichment" is the share of the attention over
    the share of the tokens that the row can see: 1 = as much as its tokens would get by chance. "value" is the
    share of what a head puts out (norms of the groups' weighted values): a sink has much mass and little of this.
    Text is all that is no video or audio token, markers among it. nan where a group has no tokens; None where
    values were not traced.
    """
    looked = inside.looked(at)
    # A row sees the answer only as far as it is written: nothing at the prompt, half on average behind it.
    visible = inside.trace.count.astype(np.float64)
    visible[:, GENERATED] *= 0.0 if at == "prompt" else 0.5
    visible = _with_text(visible)
    if measure == "value":
        if looked.value is None:
            return None
        total = looked.value.sum(-1, keepdims=True, dtype=np.float64)
        out = np.divide(looked.value, total, where=total > 0, out=np.zeros(looked.value.shape)).mean((1, 2))
    else:
        out = looked.mass.mean((1, 2), dtype=np.float64)
    if measure == "without sink":
        out = out / np.maximum(1 - out[:, [SINK]], LEAST)
        out[:, SINK] = 0.0
    out = _with_text(out)
    if measure == "enrichment":
        out = out * visible[:, : len(GROUPS)].sum(1, keepdims=True) / np.where(visible > 0, visible, np.nan)
    out = np.where(visible > 0, out, np.nan)
    if measure == "without sink":
        out[:, SINK] = np.nan
    return out


def _with_text(groups: Floats) -> Floats:
    return np.concatenate([groups, groups[:, TEXT].sum(1, keepdims=True)], 1)


def layer_shares(inside: Inside, places: Sequence[int], at: At = "prompt") -> Floats:
    """Attention by layer and group, mean over these items and over heads: [L, G]."""
    return np.asarray(inside.looked(at).mass[list(places)].mean((0, 2), dtype=np.float64))


def log_ratio(mass: NDArray[np.float32], *, heads: bool = False) -> Floats:
    """log(mass on video / mass on audio): [N, L, H, G] -> [N, L] (heads added up first) or [N, L, H]."""
    both = mass[..., [VIDEO, AUDIO]].astype(np.float64)
    both = np.maximum(both if heads else both.mean(2), LEAST)
    return np.asarray(np.log(both[..., 0]) - np.log(both[..., 1]))


def conditions(inside: Inside) -> dict[What, int]:
    """Protocol, condition and style whose clips were asked about both senses -> number of clips, in trace order."""
    found: dict[What, int] = {}
    for key in keys(inside):
        what = (key.protocol, key.condition, key.style)
        if key.question == "visual" and (pairs := _pairs(inside, what)):
            found[what] = len({inside.items[first].clip for first, _ in pairs})
    return found


def moves(
    inside: Inside, what: What, *, heads: bool = False, at: At = "prompt", tie: Sequence[Item] = ()
) -> Sums | None:
    """Sums by clip of x under the visual and the audio prompt; None where no clip was asked about both.

    ``what``: protocol, condition, style. ``tie``: items of another condition that this one will be held against,
    whose swaps then tie clips here too, so that both have the same clusters.
    """
    pairs = _pairs(inside, what)
    if not pairs:
        return None
    x = log_ratio(inside.looked(at).mass, heads=heads)
    return _summed(inside, pairs, x, tie)


def _summed(inside: Inside, pairs: Sequence[tuple[int, int]], x: Floats, tie: Sequence[Item]) -> Sums:
    by_clip: dict[str, list[tuple[int, int]]] = {}
    for pair in pairs:
        by_clip.setdefault(inside.items[pair[0]].clip, []).append(pair)
    first, second = (
        np.stack([x[[pair[side] for pair in some]].mean(0) for some in by_clip.values()]) for side in (0, 1)
    )
    owners = [inside.items[some[0][0]] for some in by_clip.values()]
    return effects.pair_sums(first, second, clusters([*owners, *tie])[: len(owners)])


def _pairs(inside: Inside, what: What) -> list[tuple[int, int]]:
    """Places of the visual and the audio question about one clip with both media, options in one order."""
    asked: dict[tuple[str, str, int], dict[str, int]] = {}
    for n, item in enumerate(inside.items):
        both = inside.trace.count[n, VIDEO] > 0 and inside.trace.count[n, AUDIO] > 0
        if both and (item.protocol, item.condition, item.style) == what:
            asked.setdefault((item.clip, item.intervention.key, item.seed), {})[item.question] = n
    return [(a["visual"], a["audio"]) for a in asked.values() if {"visual", "audio"} <= set(a)]


def paired_items(inside: Inside, what: What) -> list[Item]:
    """The items that :func:`moves` rests on: what ``tie`` of the other condition wants."""
    return [inside.items[n] for pair in _pairs(inside, what) for n in pair]


def token_moves(
    inside: Inside, what: What, modality: Literal["video", "audio"], *, at: At = "prompt"
) -> Band | None:
    """Cohen's d by layer [L] with the token as unit (labelled: how arXiv 2511.22826 may have computed it).

    A token's value is its weight over the row's weight on video and audio together; tokens of all heads and clips
    are one sample a prompt. Intervals leave out whole clips. None below three clips, or where nothing was paired.
    """
    pairs = _pairs(inside, what)
    if not pairs:
        return None
    looked, group = inside.looked(at), GROUPS.index(modality)
    whole = np.maximum(looked.mass[..., [VIDEO, AUDIO]].sum(-1, dtype=np.float64), LEAST)
    total = (looked.mass[..., group] / whole).sum(2)  # [N, L]
    square = (looked.mass2[..., group] / whole**2).sum(2)
    number = np.broadcast_to(inside.trace.count[:, [group]] * looked.mass.shape[2], total.shape)
    moments = np.stack([number, total, square])
    names = clusters([inside.items[first] for first, _ in pairs])
    index = {name: n for n, name in enumerate(dict.fromkeys(names))}
    out = np.zeros((2, 3, len(index), total.shape[1]))
    for name, pair in zip(names, pairs, strict=True):
        for side, place in enumerate(pair):
            out[side, :, index[name]] += moments[:, place]
    return effects.token_effect(out[0], out[1])


def peak(sums: Sums, sign: int = 1, reps: int = effects.REPS, seed: int = 0) -> Estimate:
    """Layer of the largest d (``sign`` 1: towards the picture) or the smallest (-1), with an interval over clips.

    Raises ValueError below three clips.
    """
    found = effects.effect(sums)
    if found is None:
        raise ValueError("peak: a peak needs three clips or more")
    drawn = np.argmax(np.nan_to_num(sign * effects.redrawn_effects(sums, reps, seed), nan=-np.inf), -1)
    layer = int(np.argmax(np.nan_to_num(sign * found.d.value, nan=-np.inf)))
    return _layer(layer, drawn, found.n, found.clusters)


def settled(gap: Floats) -> Floats:
    """First layer from which on a curve has the sign of its last layer: [..., L] -> [...]."""
    same = np.sign(gap) == np.sign(gap[..., -1:])
    trailing = np.minimum.accumulate(same[..., ::-1], axis=-1).sum(-1)
    return np.asarray(gap.shape[-1] - trailing, dtype=np.float64)


def matters(shift: Band) -> NDArray[np.bool_]:
    """Where a mean shift of x is large enough to matter: its interval lies beyond ``SMALLEST``, either way."""
    return np.asarray((shift.low > SMALLEST) | (shift.high < -SMALLEST))


def _layer(value: float, drawn: Floats, n: int, groups: int) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return Estimate(float(value), float(low), float(high), n, groups, "clip bootstrap of the layer")


def uncertainty(
    inside: Inside, measure: Literal["u_top10", "entropy"] = "u_top10", at: At = "answer"
) -> Iterator[Uncertainty]:
    """Entropy curves of questions on tampered sound against their untouched twins, where both were traced."""
    values = getattr(inside.looked(at), measure)
    if values is None:
        return
    natural = {item.group: n for n, item in enumerate(inside.items) if item.intervention.kind == "original"}
    for key, places in keys(inside).items():
        pairs = [
            (natural[inside.items[n].group], n)
            for n in places
            if inside.items[n].intervention.kind in SOUND_CHANGED and inside.items[n].group in natural
        ]
        if not pairs:
            continue
        names = clusters([inside.items[n] for _, n in pairs])
        first, second = (values[[pair[side] for pair in pairs]].astype(np.float64) for side in (0, 1))
        original, tampered = (effects.curve(v, names, share=True) for v in (first, second))
        change = effects.curve(second - first, names)
        if original is not None and tampered is not None and change is not None:
            yield Uncertainty(key, original, tampered, change, len(pairs), len(set(names)))


def parting(inside: Inside, reps: int = effects.REPS, seed: int = 0) -> Iterator[Parting]:
    """Where the layers decide between what is seen and what is heard, for each kind of conflicting item."""
    for key, places in keys(inside).items():
        gaps, owners = [], []
        for n in places:
            gap = conflict(inside, n)
            if gap is not None:
                gaps.append(gap)
                owners.append(inside.items[n])
        names = clusters(owners)
        band = effects.curve(np.stack(gaps), names) if gaps else None
        seen = stats.proportion([bool(gap[-1] > 0) for gap in gaps], names) if gaps else None
        if band is not None and seen is not None:
            drawn = settled(effects.redrawn_means(np.stack(gaps), names, reps, seed))
            groups = len(set(names))
            where = _layer(float(settled(band.value)), drawn, len(gaps), groups)
            yield Parting(key, band, where, seen, len(gaps), groups)


def conflict(inside: Inside, place: int) -> Floats | None:
    """log p of the seen option's first token minus that of the heard one's, by layer [L].

    None where the item has no conflict, an option was not traced, or both begin with one token (and cannot be told
    apart there).
    """
    item = inside.items[place]
    options = {clean(choice): p for choice, p in inside.trace.logp_choice[place].items()}
    sides = [[clean(n) for n in names if clean(n) in options] for names in (item.seen, item.heard)]
    if not sides[0] or not sides[1] or set(sides[0]) & set(sides[1]):
        return None
    gap = options[sides[0][0]].astype(np.float64) - options[sides[1][0]]
    return np.asarray(gap) if np.any(gap) else None
