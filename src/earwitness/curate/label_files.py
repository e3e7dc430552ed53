"""Labels that are not AudioSet's own: VGGSound, VGGSounder, your labels file, or a bare list of names.

Told apart by what stands in them:

==============  =====================================================  =====================================
VGGSound        CSV without a header: video id, start, label, split    a sample a row, 10 s
VGGSounder      CSV with video_id, label, modality                     a sample a video; A heard, V seen, AV both
labels file     CSV or JSONL with path, seen, heard (docs/labels.md)   a sample a clip
names           one name a line, or a CSV column label or display_name no samples: only what each name means
==============  =====================================================  =====================================

Names become nodes of the ontology by :mod:`earwitness.curate.names`; what has none is "".

Functions: ``read_labels`` -> :class:`LabelFile`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from earwitness.curate.names import Match, matched, read_map
from earwitness.curate.ontology import Ontology
from earwitness.curate.samples import Segment
from earwitness.datasets import labels as labels_files
from earwitness.datasets.question_file import SAID
from earwitness.datasets.vggsounder import SECONDS, parts
from earwitness.records import Clip

VGGSOUND_MAP = Path(__file__).parent / "vggsound_map.csv"
LICENCES = {
    "VGGSound": "video: its owner's (YouTube); labels: CC-BY-4.0 (VGGSound)",
    "VGGSounder": "video: its owner's (YouTube); labels: Apache-2.0 (VGGSounder)",
}


class LabelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A labels file as read: what each of its names means, and its samples, if it has any.

    ``clips`` are the rows of a labels file of ours, by the id of their segment.
    """

    kind: str
    matches: dict[str, Match]
    segments: tuple[Segment, ...] = ()
    clips: dict[str, Clip] = {}
    licence: str = ""

    @property
    def unknown(self) -> tuple[Match, ...]:
        """Names without a node, sorted."""
        return tuple(sorted((m for m in self.matches.values() if m.how == "unknown"), key=lambda m: m.label))


class _Raw(msgspec.Struct):
    """A sample with its labels as the file spells them."""

    id: str
    source: str
    start: float
    end: float | None
    heard: list[str]
    seen: list[str] | None
    split: str


def read_labels(path: str | Path, ontology: Ontology, decisions: str | Path | None = None) -> LabelFile:
    """Read labels of any of the kinds above; ``decisions`` is your file ``label,name`` (names.read_map).

    VGGSound's and VGGSounder's names are looked up in ``vggsound_map.csv`` as well; your decisions go first. Raises
    ValueError naming the line for rows that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such labels file")
    kind = _kind(path)
    given = {} if kind not in LICENCES else read_map(VGGSOUND_MAP, ontology)
    given |= read_map(decisions, ontology) if decisions is not None else {}
    if kind == "names":
        return LabelFile(kind=kind, matches=matched(ontology, _names(path), given))
    clips: dict[str, Clip] = {}
    if kind == "VGGSound":
        raw = _vggsound(path)
    elif kind == "VGGSounder":
        raw = _vggsounder(path)
    else:
        raw, clips = _ours(path)
    if not raw:
        raise ValueError(f"{path}: holds no samples")
    matches = matched(ontology, (name for one in raw for name in (*one.heard, *(one.seen or ()))), given)
    segments = tuple(_segment(one, matches) for one in raw)
    return LabelFile(kind=kind, matches=matches, segments=segments, clips=clips, licence=LICENCES.get(kind, ""))


def _kind(path: Path) -> str:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return "labels file"
    rows = list(_rows(path, 1))
    if not rows:
        raise ValueError(f"{path}: is empty")
    first = [cell.strip().lower() for cell in rows[0][1]]
    if {"video_id", "label", "modality"} <= set(first):
        return "VGGSounder"
    if "path" in first:
        return "labels file"
    if len(first) == 4 and len(first[0]) == 11 and first[1].replace(".", "", 1).isdigit():
        return "VGGSound"
    if len(first) == 1 or {"label", "display_name"} & set(first) or path.suffix.lower() == ".txt":
        return "names"
    raise ValueError(
        f"{path}: cannot tell what it is from {', '.join(first)[:80]!r}; wants VGGSound's four columns, "
        f"VGGSounder's video_id,label,modality, a labels file with path, or a column label"
    )


def _rows(path: Path, most: int | None = None) -> Iterable[tuple[int, list[str]]]:
    """Line number and fields of a CSV, without comments and blank lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            given = 0
            for row in reader:
                if any(c.strip() for c in row) and not row[0].startswith("#"):
                    yield reader.line_num, row
                    given += 1
                    if given == most:
                        return
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is no CSV text ({error})") from None


def _names(path: Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        lines = path.read_text("utf-8-sig").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    rows = list(_rows(path))
    head = [cell.strip().lower() for cell in rows[0][1]]
    at = next((head.index(name) for name in ("label", "display_name") if name in head), None)
    kept = rows if at is None else rows[1:]
    return list(dict.fromkeys(row[at or 0].strip() for _, row in kept if len(row) > (at or 0)))


def _vggsound(path: Path) -> list[_Raw]:
    out, wrong = [], []
    for number, row in _rows(path):
        try:
            video, begin, label, split = (cell.strip() for cell in row)
            start = float(begin)
        except ValueError:
            wrong.append(f"{path.name}, line {number}: wants video id, start in seconds, label, split, got {row}")
            continue
        out.append(
            _Raw(f"{video}_{round(start):06d}", video, start, start + SECONDS, [label], None, split or "test")
        )  # fmt: skip
    if wrong:
        raise ValueError("\n".join(wrong[:SAID]))
    return out


def _vggsounder(path: Path) -> list[_Raw]:
    found: dict[str, _Raw] = {}
    wrong = []
    rows = iter(_rows(path))
    head = [cell.strip().lower() for cell in next(iter(rows))[1]]
    for number, row in rows:
        cells = dict(zip(head, row, strict=False))
        video, modality = cells.get("video_id", ""), cells.get("modality", "")
        try:
            source, start = parts(video)
            if modality not in ("A", "V", "AV"):
                raise ValueError(f"modality wants A, V or AV, got {modality!r}")
        except ValueError as error:
            wrong.append(f"{path.name}, line {number}: {error}")
            continue
        one = found.setdefault(video, _Raw(video, source, start, start + SECONDS, [], [], "test"))
        if "A" in modality:
            one.heard.append(cells["label"])
        if "V" in modality and one.seen is not None:
            one.seen.append(cells["label"])
    if wrong:
        raise ValueError("\n".join(wrong[:SAID]))
    return [one for one in found.values() if one.heard]


def _ours(path: Path) -> tuple[list[_Raw], dict[str, Clip]]:
    raw, clips, wrong = [], {}, []
    for number, row in labels_files.rows(path):
        try:
            clip = labels_files.clip_of(row)
        except ValueError as error:
            wrong.append((number, str(error)))
            continue
        if clip.id in clips:
            wrong.append((number, f"id {clip.id!r} stands there twice"))
        clips[clip.id] = clip
        if clip.heard:
            seen = list(clip.seen) or None  # not labelled: then nothing is asked of it
            raw.append(_Raw(clip.id, clip.cluster, clip.start, clip.end, list(clip.heard), seen, clip.split))
    if wrong:
        raise labels_files.LabelsError(path, wrong)
    return raw, clips


def _segment(one: _Raw, matches: Mapping[str, Match]) -> Segment:
    def nodes(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(matches[n].node for n in names))

    return Segment(
        id=one.id, source=one.source, start=one.start, end=one.end, labels=nodes(one.heard),
        seen=None if one.seen is None else nodes(one.seen), split=one.split,
    )  # fmt: skip
