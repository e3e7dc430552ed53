"""Thud's own results (eval_dpo_sync.py and eval_vggsoundsync.py of rakanWen/wvs-code) as Thud items.

Each row has what is true (``gt_synced``, ``gt_direction``: "delay" = sound late, ``gt_offset_sec``: a size without
a sign), what its parser made of the answer (``pred_*``) and the answer (``raw_output``). The three-way question is
the published one, free ("neutral") or by letter ("direct"). Rows of one source share a clip, so that original and
shifted are twins; the name of the source is the file's without ``_delay_2.16s`` or ``_early_1.92s``.

Their own code drops answers that raised under transformers and keeps "" for those that raised under vLLM, which its
parser then calls "synced": here both are failures, and the first kind cannot be seen in the file.

Functions: ``is_thud``, ``replies``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from earwitness.protocols import thud
from earwitness.protocols.making import finish
from earwitness.questions import answer_choices, parse_letter, thud_prompt
from earwitness.records import Intervention, Item, digest
from earwitness.rescore.plain import reply
from earwitness.rescore.rows import Reply, Row

BAND = 1.7  # seconds: smaller shifts are steps of the ladder (1.6 and below), larger ones the band (1.8 and above)
TRUTH = ("gt_synced", "gt_direction", "gt_offset_sec")
LABEL = {"delay": "DELAY", "early": "EARLY", "none": "DESYNC_NO_DIRECTION"}
# --shuffle-mcq of eval_vggsoundsync.py asks for the same three in another order; back to the published letters.
SHUFFLED = {"A": "C", "B": "A", "C": "B"}
_SHIFTED = re.compile(r"_(?:delay|early)_[\d.]+s(?=\.mp4$|$)")


def is_thud(row: Row) -> bool:
    """Whether a row is one of Thud's synchrony results."""
    return all(key in row for key in TRUTH)


def label(synced: object, direction: object) -> str:
    """Thud's label of (synced, direction)."""
    return "SYNC" if synced else LABEL.get(str(direction), "DESYNC_NO_DIRECTION")


def replies(rows: Sequence[tuple[str, Row]], model: str) -> list[Reply]:
    """Rows as replies to Thud's shift question. Raises ValueError for a row without truth or answer."""
    for where, row in rows:
        missing = [k for k in (*TRUTH, "raw_output") if k not in row]
        if missing:
            raise ValueError(f"{where}: no {missing[0]!r}: a row of Thud's eval_results.jsonl has one")
    shuffled = any(_shuffled(row) for _, row in rows)
    return [_reply(where, row, model, shuffled) for where, row in rows]


def _shuffled(row: Row) -> bool:
    """Whether the letter recorded and the direction made of it show the shuffled order of options."""
    letter = row.get("pred_letter")
    straight = {"A": "SYNC", "B": "DELAY", "C": "EARLY"}
    return letter in straight and straight[letter] != label(row.get("pred_synced"), row.get("pred_direction"))


def _reply(where: str, row: Row, model: str, shuffled: bool) -> Reply:
    style = "direct" if "pred_letter" in row else "neutral"
    truth = label(row["gt_synced"], row["gt_direction"])
    if truth == "DESYNC_NO_DIRECTION":
        raise ValueError(
            f"{where}: not synced, and gt_direction is {row['gt_direction']!r}, neither delay nor early"
        )
    size = abs(float(row["gt_offset_sec"] or 0.0))
    seconds = {"SYNC": 0.0, "DELAY": size, "EARLY": -size}[truth]
    item = _item(row, where, style, truth, seconds)
    raw = row["raw_output"] if isinstance(row["raw_output"], str) else ""
    text: object = row["raw_output"]
    if shuffled and style == "direct" and (letter := parse_letter(raw)) in SHUFFLED:
        text = SHUFFLED[letter]  # the item asks with the published letters
    published = None
    if "pred_synced" in row:
        published = label(row["pred_synced"], row.get("pred_direction")) == truth
    made = reply(item, text, model, where, published=published)
    return Reply(made.item, made.answer, raw, published, where)


def _item(row: Row, where: str, style: str, truth: str, seconds: float) -> Item:
    name = str(row.get("video") or row.get("ytid") or row.get("uid") or "")
    if not name:
        raise ValueError(f"{where}: neither video, ytid nor uid: which clip is it?")
    clip = _SHIFTED.sub("", name.rsplit("/", 1)[-1].removesuffix(".mp4"))
    condition = "original" if truth == "SYNC" else "shift" if abs(seconds) >= BAND else "ladder"
    iv = Intervention() if truth == "SYNC" else Intervention(kind="shift", seconds=seconds)
    heard = (str(row["label"]),) if row.get("label") else ()
    return finish(
        Item(
            id="",
            protocol=thud.NAME,
            condition=condition,
            question="shift",
            style=style,
            clip=clip,
            source=clip,
            group=digest(thud.NAME, clip, "shift", style),
            intervention=iv,
            prompt=thud_prompt("shift", style),
            choices=answer_choices("shift", style),
            target=truth,
            evidence=("sync",),
            heard=heard,
            offset=seconds,
            task=str(row.get("difficulty", "")),
        )
    )
