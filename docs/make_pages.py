"""Write docs/cli.md, docs/settings.md and docs/recipes.md from the code; a test holds the pages to it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from typer.main import get_command

from earwitness.align import recipes
from earwitness.cli import app
from earwitness.protocols import Settings
from earwitness.session import Options

HERE = Path(__file__).parent


def _verbs(commands: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in commands.items():
        yield before + name, command
        yield from _verbs(getattr(command, "commands", {}), f"{before}{name} ")


def commands() -> str:
    """The text of cli.md."""
    lines = [
        "# Command line",
        "",
        "Made by `make docs` from the commands. Exit codes: 0 done, 1 done with too many failed",
    ]
    lines += ["failed items, 2 bad usage or input, 3 refused by the ear or eye check, 130 stopped by Ctrl-C.", ""]
    for name, command in sorted(_verbs(get_command(app).commands)):  # type: ignore[attr-defined]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(f"{(p.metavar or p.name).upper()}{'...' if p.nargs == -1 else ''}" for p in arguments)
        lines += [f"## earwitness {name} {usage}".rstrip(), "", (command.help or "").strip(), ""]
        rows = [p for p in command.params if p.name != "help"]
        if rows:
            lines += ["| | default | |", "|---|---|---|"]
        for p in rows:
            label = (p.name or "").upper() if p in arguments else ", ".join(p.opts)
            default = "" if p.required or p.default is None else f"`{p.default}`"
            lines.append(f"| `{label}` | {default} | {(p.help or '').replace('|', chr(92) + '|')} |")
        lines += ["", (command.epilog or "").strip(), ""]
    return "\n".join(lines)


def settings() -> str:
    """The text of settings.md."""
    lines = ["# Settings", "", "Made by `make docs`. Given as `--set key=value`; several values by comma:", ""]
    lines += ["`earwitness audit -m hans --out runs/x --set seeds=0,1 --set long_context_tokens=1000`", ""]
    for title, kind in (("Protocols", Settings), ("The audit itself", Options)):
        text = inspect.getdoc(kind) or ""
        lines += [f"## {title}", "", text.replace("``", "`"), "", "| key | default |", "|---|---|"]
        for field in msgspec.structs.fields(kind):
            default = field.default
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            lines.append(f"| `{field.name}` | {'' if shown in (None, '') else f'`{shown}`'} |")
        lines.append("")
    return "\n".join(lines)


def recipe_page() -> str:
    """The text of recipes.md."""
    lines = [
        "# Recipes",
        "",
        "Made by `make docs`. `earwitness align STAGE RECIPE --data SET -m MODEL --out DIR`; any",
        "field may be changed with `--set field=value`, and `--dry-run` prints the whole recipe. Fields that are",
        "not listed have the values at the end of this page.",
        "",
        "Any recipe can end with less than all of what was learned, which often keeps what it taught and costs",
        "less elsewhere: `--set back=0.95,0.9,0.85,0.8` tries these shares in turn, for as long as validation on",
        "the set's own valid pairs is no worse (arXiv 2109.01903;",
        "[what it did](repair.md#on-things-that-were-never-taught)). `align.json` says how much was kept (`way`),",
        "and what each share gave (`ways`); `--set back=` keeps all.",
        "",
    ]
    usual = {f.name: f.default for f in msgspec.structs.fields(recipes.Recipe)}
    for name in recipes.names():
        made = recipes.named(name)
        lines += [f"## {name}", "", f"`earwitness align {made.stage} {name}`: {made.source}", ""]
        lines += ["| field | value | the source says | ours |", "|---|---|---|---|"]
        for field, value in msgspec.to_builtins(made).items():
            if field in recipes.ABOUT:
                continue
            if value != usual[field] or field in made.quotes or field in made.ours:
                shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
                said, own = made.quotes.get(field, ""), made.ours.get(field, "")
                lines.append(f"| `{field}` | {shown} | {said} | {own} |".replace("\n", " "))
        lines.append("")
    lines += ["## All fields", "", "| field | unless a recipe says otherwise |", "|---|---|"]
    for field, value in usual.items():
        if field not in recipes.ABOUT:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            lines.append(f"| `{field}` | {shown} |")
    return "\n".join([*lines, ""])


PAGES = {"cli.md": commands, "settings.md": settings, "recipes.md": recipe_page}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (HERE / name).write_text(text())
