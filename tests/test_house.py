"""The house rules, kept by tests: import direction, no torch in the core, exported names, documented verbs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "earwitness"
# A room imports only from rooms above it (and from itself).
ROOMS = [
    "records", "media", "interventions", "foley", "questions", "stats", "scoring", "protocols", "datasets",
    "scorecard", "published", "models", "run", "judges", "rescore", "export", "audit", "serve", "whitebox",
    "curate", "align", "compare", "report", "session", "terminal", "cli",
]  # fmt: skip


def _room(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").parts[0]


def _files() -> list[Path]:
    return sorted(p for p in SRC.rglob("*.py") if p != SRC / "__init__.py")


@cache
def _imports(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(SRC)))
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    mine = ROOMS.index(_room(path))
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "earwitness" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= mine, f"{path.relative_to(SRC)} imports {name}, which is below it"


def test_every_file_lies_in_a_room() -> None:
    assert {_room(p) for p in _files()} <= set(ROOMS)


def test_only_media_opens_files_with_pyav() -> None:
    users = {_room(p) for p in _files() if any(n.split(".")[0] == "av" for n in _imports(p))}
    assert users == {"media"}


def test_the_core_loads_no_torch() -> None:
    code = (
        "import sys, earwitness.cli, earwitness.session, earwitness.compare, earwitness.models.load, "
        "earwitness.models.fake; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch or transformers was imported"


@pytest.mark.parametrize(
    "room",
    [
        "media",
        "interventions",
        "foley",
        "questions",
        "stats",
        "published",
        "judges",
        "rescore",
        "export",
        "serve",
        "session",
    ],
)
def test_exported_names_exist_and_are_documented(room: str) -> None:
    module = importlib.import_module(f"earwitness.{room}")
    for name in module.__all__:
        thing = getattr(module, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith("earwitness"):
            assert (thing.__doc__ or "").strip(), f"{room}.{name} has no docstring"


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(SRC)))
def test_files_are_short_named_and_explained(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"
    assert path.stem not in {"utils", "helpers", "common", "managers", "registry"}


def test_no_bare_except_outside_the_edges() -> None:
    """Catching everything is for the audit loop (it becomes Answer.error) and for hostile media."""
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception"):
                assert _room(path) in {"audit", "media"}, f"{path.relative_to(SRC)}:{node.lineno}"


def _verbs(commands: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """All verbs, those of groups ("curate twins") with their group's name."""
    for name, command in commands.items():
        yield before + name, command
        yield from _verbs(getattr(command, "commands", {}), f"{before}{name} ")


def test_every_verb_is_in_the_readme_and_has_an_example() -> None:
    from typer.main import get_command

    from earwitness.cli import app

    readme = (ROOT / "README.md").read_text()
    for name, command in _verbs(get_command(app).commands):  # type: ignore[attr-defined]
        assert f"earwitness {name}" in readme or f"`{name} RUN`" in readme, f"README does not show {name}"
        assert command.help, name
        assert command.epilog, f"{name} has no example"
        assert "earwitness " + name in command.epilog
        options = [p for p in command.params if p.param_type_name == "option"]
        assert len(options) <= (13 if name == "audit" else 9), f"{name} has {len(options)} options"


def test_every_document_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
