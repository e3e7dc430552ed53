"""Write docs/cli.md from the commands themselves; a test holds the page to the code."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from earwitness.cli import app

PAGE = Path(__file__).with_name("cli.md")


def page() -> str:
    """The page's text."""
    lines = ["# Command line", "", "Made by `make docs` from the commands. Exit codes: 0 done, 1 done with too many failed"]
    lines += ["items, 2 bad usage or input, 3 refused by the ear or eye check, 130 stopped by Ctrl-C.", ""]
    for name, command in sorted(get_command(app).commands.items()):  # type: ignore[attr-defined]
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


if __name__ == "__main__":
    PAGE.write_text(page())
