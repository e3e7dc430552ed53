"""Who checks, and against which limits: from the words of a command line to a record.

Function: ``asked`` -> :class:`Asked`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from earwitness.curate import opening
from earwitness.curate.checks import gates, witnesses
from earwitness.datasets.labels import nearest

OWN = ("limit", "seed", "classes", "device", "retry_failed")
JUDGE = "judge."  # what stands before an option of the judge's model


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a check.

    ``judges`` and ``audited`` are models' names; ``tagger`` and ``classifier`` those of witnesses (empty: none).
    ``every``: show each clip to every check, also where a cheap one failed. ``limit`` clips at most, ``seed`` of
    procedural clips and of the options' order. ``classes``: a file with the class list, one a line (empty: all
    classes that the manifest has). ``device``: where witnesses run. ``retry_failed``: ask again what failed.
    ``limits`` of the gates; ``judge_options`` of the judge's model.
    """

    judges: tuple[str, ...] = ()
    audited: tuple[str, ...] = ()
    tagger: str = ""
    classifier: str = ""
    every: bool = False
    limit: int | None = None
    seed: int = 0
    classes: str = ""
    device: str = "cpu"
    retry_failed: bool = False
    limits: gates.Limits = gates.Limits()
    judge_options: dict[str, Any] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class list of the file; empty where none was named."""
        if not self.classes:
            return ()
        lines = Path(self.classes).read_text("utf-8-sig").splitlines()
        return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def asked(
    judges: Sequence[str] = (),
    audited: Sequence[str] = (),
    *,
    tagger: str = "",
    classifier: str = "",
    every: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Asked:
    """What is asked, from names and texts (``--set key=value``).

    Raises ValueError for unknown settings, with the nearest, for values that cannot be, for a judge named twice,
    and for a witness that there is not.
    """
    own: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    options: dict[str, Any] = {}
    known = (*OWN, *gates.Limits.__struct_fields__)
    for key, value in (settings or {}).items():
        if key.startswith(JUDGE):
            options[key.removeprefix(JUDGE)] = _number(value)
        elif key in OWN:
            own[key] = value
        elif key in gates.Limits.__struct_fields__:
            limits[key] = value
        else:
            raise ValueError(
                f"--set {key}: no such setting{nearest(key, known)}; known: {', '.join(known)}, and judge.KEY for "
                f"an option of the judge's model"
            )
    if twice := [name for n, name in enumerate(judges) if name in judges[:n]]:
        raise ValueError(f"--judge {twice[0]} is named twice: one and the same judge always agrees with itself")
    if options and not judges:
        raise ValueError(f"--set judge.{next(iter(options))}: there is no --judge")
    try:
        made = msgspec.convert(
            {
                **own, "judges": tuple(judges), "audited": tuple(audited), "tagger": tagger,
                "classifier": classifier, "every": every, "limits": limits, "judge_options": options,
            },
            Asked, strict=False,
        )  # fmt: skip
    except msgspec.ValidationError as error:
        raise ValueError(opening.plainly(error, Asked, gates.Limits)) from None
    if tagger:
        witnesses.known(tagger, hears=True)
    if classifier:
        witnesses.known(classifier, hears=False)
    if made.classes and not Path(made.classes).is_file():
        raise ValueError(f"--set classes={made.classes}: no such file (one class a line)")
    return made


def _number(text: str) -> Any:
    """A whole number, a number, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
