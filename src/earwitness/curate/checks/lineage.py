"""Is the judge of the audited model's family? Then it may not judge what that model will be tested on.

A benchmark filtered by a model of the audited family keeps the clips that this family already understands, and
drops those on which it fails: its score rises by that alone. MMA-Bench's clips were passed by Qwen2.5-Omni-7B
(arXiv 2511.22826, appendix B.1), which is among the models that it then tests.

What is compared, in this order: the name as a whole; the family before the colon (``qwen2.5-omni:``); the line that
a model's own name begins with ("Qwen2.5-Omni-7B" and "Qwen3-30B" are both "qwen"); the architecture and the base
that a local checkpoint's files name; the module of a model that is code. What none of them tells, a fine-tune under
another name on a server, cannot be seen from here.

Functions: ``related`` (the rule that ties two models, in words), ``refuse``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from earwitness.models.load import FAMILIES, HANS, SHIPPED

CONTROL = "fake"  # controls are told apart by kind: they are rules, and share nothing
PREFIXES = (*FAMILIES, "vllm", "openai", "gemini")
NAMED_IN = (("config.json", "_name_or_path"), ("adapter_config.json", "base_model_name_or_path"))


class Traits(NamedTuple):
    """What is known of a model from its name and, where they lie here, its files."""

    name: str
    family: str  # before the colon, where that says which model it is
    lines: frozenset[str]
    architectures: frozenset[str]
    module: str


def related(judge: str, audited: str) -> str:
    """The rule by which two models are of one family, in words; empty where none ties them."""
    a, b = _traits(judge), _traits(audited)
    if a.name.casefold() == b.name.casefold():
        return "it is the audited model itself"
    if a.family and a.family == b.family:
        return f"both are of the family {a.family}"
    if shared := sorted(a.lines & b.lines):
        return f"both are of the line {shared[0]}, by their names"
    if shared := sorted(a.architectures & b.architectures):
        return f"both have the architecture {shared[0]}"
    if a.module and a.module == b.module:
        return f"both are made by {a.module}"
    return ""


def refuse(judges: Iterable[str], audited: Sequence[str]) -> None:
    """Raise ValueError for a judge of an audited family, naming the rule."""
    for judge in judges:
        for other in audited:
            if why := related(judge, other):
                raise ValueError(
                    f"--judge {judge} may not pass clips for an audit of {other}: {why}. A benchmark filtered by "
                    f"the audited family keeps what that family understands already; take a judge of another one"
                )


def _traits(name: str) -> Traits:
    text = name.strip()
    family, colon, rest = text.partition(":")
    if text in SHIPPED:
        folder = HANS if text == "hans" else HANS.with_name("hans_cured")
        return Traits(text, "hans", frozenset(), _architectures(folder), "")
    if family == CONTROL and colon:
        return Traits(text, "", frozenset(), frozenset(), "")
    if colon and family in PREFIXES:
        model = rest.rpartition("#")[2] if family == "openai" else rest
        lines = {_line(model), *(map(_line, _bases(Path(rest).expanduser())))}
        built = _architectures(Path(rest).expanduser())
        if family in FAMILIES:
            lines.add(_line(family))
            built |= {_plain(family)}
        return Traits(
            text, family if family in ("gemini", *FAMILIES) else "", frozenset(lines - {""}), built, ""
        )  # fmt: skip
    if colon:  # package.module:factory
        return Traits(text, "", frozenset(), frozenset(), family)
    return Traits(text, "", frozenset({_line(text)} - {""}), frozenset(), "")


def _line(model: str) -> str:
    """The letters that a model's own name begins with: "Qwen/Qwen2.5-Omni-7B" -> "qwen"."""
    own = re.split(r"[/\\]", model.strip().rstrip("/\\"))[-1]
    found = re.match(r"[a-z]{3,}", re.sub(r"^(?:the|my)[-_]", "", own.casefold()))
    return found.group(0) if found else ""


def _plain(architecture: str) -> str:
    """ "qwen2_5_omni_thinker" and "qwen2.5-omni" are one architecture."""
    bare = re.sub(r"[^a-z0-9]+", "", architecture.casefold())
    return re.sub(r"(?:thinker|moe|talker|forconditionalgeneration)+$", "", bare).replace("moe", "")


def _architectures(folder: Path) -> frozenset[str]:
    config = _json(folder / "config.json")
    return frozenset({_plain(str(config["model_type"]))} if config.get("model_type") else ())


def _bases(folder: Path) -> list[str]:
    """The models that a local checkpoint, or adapter, says it was made from."""
    return [str(found) for file, key in NAMED_IN if (found := _json(folder / file).get(key))]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError):
        return {}  # whoever loads the model says what is wrong with it
    return found if isinstance(found, dict) else {}
