"""Is this data set fit to teach or to test listening? Every known way of being right without it, tried and counted.

A set of questions, training rows or labelled clips is read (``lint_reading``) and put to checks that need no model.
A check says how many rows of how many show a fault, names one, and tells why it matters; what does not apply says
so with its reason, and is not passed in silence.

=================  ==============================================================================================
module             what it looks at
=================  ==============================================================================================
``lint_answers``   the right answers: constant, in one place, contradictory, without a twin
``lint_words``     the words: length, a fixed phrase, a bag of words, the prompt (with the scorers of ``lint_text``)
``lint_times``     stated against true offsets, events off the clip, times on whole seconds
``lint_media``     files, sound tracks, silence; clips that two sets share
=================  ==============================================================================================

Thresholds and their reasons: docs/lint.md. Functions: ``lint`` (a :class:`Report`), ``checks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from earwitness.curate.lint import answers as lint_answers
from earwitness.curate.lint import media as lint_media
from earwitness.curate.lint import times as lint_times
from earwitness.curate.lint import words as lint_words
from earwitness.curate.lint.findings import Finding
from earwitness.curate.lint.reading import read
from earwitness.curate.lint.rows import Material

CHECKS: Sequence[Callable[[Material], Finding]] = (
    *lint_answers.CHECKS, *lint_words.CHECKS, *lint_times.CHECKS, *lint_media.CHECKS,
)  # fmt: skip


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What all checks say of one data set."""

    name: str
    form: str  # supervised, preference, questions, clips
    rows: int
    sources: int  # source clips
    against: str = ""
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any check fails."""
        return any(f.verdict == "fails" for f in self.findings)

    def of(self, check: str) -> Finding:
        """One check's finding, by its name. Raises ValueError for a name that no check has."""
        for found in self.findings:
            if found.check == check:
                return found
        raise ValueError(f"lint: no check {check!r}; there are {', '.join(f.check for f in self.findings)}")


def lint(spec: str, *, against: str | None = None, media: Path | None = None) -> Report:
    """Check a data set.

    Parameters
    ----------
    spec : training rows (LLaMA-Factory JSON, ms-swift JSON lines), a training set's folder or its train.jsonl, a
        run's folder (what was asked), a question file (FORMAT:FILE, or a file whose rows tell their format), or
        labelled clips (a folder or its labels file).
    against : a second set, read likewise: which clips and questions stand in both?
    media : folder below which the media are; default: where the rows say, beside the file, and below its videos/.

    Raises
    ------
    ValueError
        Where a set cannot be read; the message names file and row.

    >>> report = lint("my_pairs.jsonl")  # doctest: +SKIP
    >>> [f.check for f in report.findings if f.verdict == "fails"]  # doctest: +SKIP
    """
    if media is not None and not media.is_dir():
        raise ValueError(f"--media {media}: no such folder")
    m = read(spec, media)
    other = None if against is None else read(against, media)
    if m.form == "clips":
        rows, sources = len(m.clips), {c.cluster for c in m.clips.values()}
    else:
        rows, sources = len(m.samples), {s.source for s in m.samples}
    return Report(
        name=m.name, form=m.form, rows=rows, sources=len(sources), against="" if other is None else other.name,
        findings=(*(check(m) for check in CHECKS), lint_media.overlap(m, other)),
        notes=(*m.notes, *(() if other is None else other.notes)),
    )  # fmt: skip
