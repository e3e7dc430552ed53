"""The clips of a question file as a clip set: those whose media are there, with their questions.

Clips are opened when they are asked for, not before: a broken file is a failed item, not a failed start. Where the
question file takes sound and picture from different places (``QuestionFile.lags``), each is cut from its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from earwitness import media
from earwitness.datasets.folder import CUT_VIEW, FolderClips
from earwitness.datasets.question_file import QuestionFile
from earwitness.media import MediaError
from earwitness.records import Clip, Media, Question, View, Wave, digest, how_many

NAMED = 5  # missing clips that a message names


class QuestionClips(FolderClips):
    """Clips with ``questions``; ``missing`` names those that are not there, ``about`` is the file as read."""

    def __init__(self, about: QuestionFile, root: Path, clips: Sequence[Clip]) -> None:
        super().__init__(root, clips)
        kept = {c.id for c in clips}
        self.about = about
        self.questions: tuple[Question, ...] = tuple(q for q in about.questions if q.clip in kept)
        self.missing = about.missing

    @property
    def left_out(self) -> list[str]:
        """In plain words: whose media are missing, what a limit left out, and what the file's reader notes."""
        about, lines = self.about, []
        if self.missing:
            gone = set(self.missing)
            some = ", ".join(self.missing[:NAMED]) + (" ..." if len(self.missing) > NAMED else "")
            lines.append(
                f"{about.name}: media of {len(gone):,} of {how_many(len(about.clips), 'clip')} are not there "
                f"({some}): "
                f"{sum(q.clip in gone for q in about.questions):,} of "
                f"{how_many(len(about.questions), 'question')} not asked"
            )
        there = len(about.clips) - len(self.missing)
        if len(self.clips) < there:
            lines.append(
                f"{about.name}: {len(self.clips):,} of {how_many(there, 'clip')} drawn, balanced over tasks"
            )
        return [*lines, *(f"{about.name}: {note}" for note in about.notes)]

    def media(self, clip: Clip, view: View) -> Media:
        """Decode one clip. Raises MediaError where the file cannot be read."""
        lag = self.about.lags.get(clip.id, 0.0)
        shown = super().media(clip, view)
        if not lag:
            return shown
        end = None if clip.end is None else clip.end + lag
        sound = media.load(self.path(clip), view, start=max(0.0, clip.start + lag), end=end)
        if sound.wave is None:
            raise MediaError(f"{self.path(clip)}: clip {clip.id} is to be heard {lag:+.2f} s off, but has no sound")
        return shown.with_wave(_fitted(sound.wave, round(shown.duration * view.rate)))

    def file(self, clip: Clip, folder: Path) -> Path:
        """The clip's own file; a crop, or one with its sound from elsewhere, is written into ``folder``, once."""
        if clip.id not in self.about.lags:
            return super().file(clip, folder)
        out = Path(folder) / f"{clip.id}.mp4"
        if not out.exists():
            cut = self.media(clip, CUT_VIEW)
            if cut.frames is None:
                raise MediaError(f"{self.path(clip)}: clip {clip.id} has no pictures to cut out")
            out.parent.mkdir(parents=True, exist_ok=True)
            part = out.with_name(f"{out.stem}.part.mp4")  # a file of the right name is always whole
            media.write_clip(cut.frames, CUT_VIEW.fps, cut.wave, cut.rate, part)
            part.replace(out)
        return out


def _fitted(wave: Wave, samples: int) -> Wave:
    """The wave at a length: a rounding of one cut against the other, or the end of the file, is filled."""
    kept = wave[:, :samples]
    short = samples - kept.shape[1]
    return kept if short <= 0 else np.pad(kept, ((0, 0), (0, short)))


def drawn(about: QuestionFile, clips: Sequence[Clip], limit: int, seed: int) -> list[Clip]:
    """At most ``limit`` of the clips, drawn by seed and balanced over tasks, in the file's order.

    Clips are taken in an order drawn by seed, each time one for the task that has the fewest so far: rare tasks
    (983 of VGGSounder's 29,509 labels are visible but silent) keep enough clips to say something about. Figures
    over all tasks therefore weigh tasks more evenly than the whole file does.
    """
    if len(clips) <= limit:
        return list(clips)
    tasks: dict[str, list[str]] = {}
    known = {c.id for c in clips}
    for question in about.questions:
        if question.clip in known:
            tasks.setdefault(question.task, []).append(question.clip)
    queues = {t: sorted(set(ids), key=lambda i: digest("limit", seed, i)) for t, ids in sorted(tasks.items())}
    member: dict[str, list[str]] = {}
    for task, ids in queues.items():
        for i in ids:
            member.setdefault(i, []).append(task)
    have: Counter[str] = Counter()
    chosen: set[str] = set()
    at = dict.fromkeys(queues, 0)
    while len(chosen) < limit and queues:
        task = min(queues, key=lambda t: (have[t], t))
        queue = queues[task]
        while at[task] < len(queue) and queue[at[task]] in chosen:
            at[task] += 1
        if at[task] == len(queue):
            del queues[task]
            continue
        pick = queue[at[task]]
        chosen.add(pick)
        have.update(member[pick])
    return [c for c in clips if c.id in chosen]
