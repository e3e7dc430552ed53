"""What all verbs share: the app, arguments of the same meaning, and how a verb fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from earwitness.terminal import err, plain

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Find out whether a model that takes video with sound listens, or guesses the sound from the picture.",
)

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="hans, fake:hears, qwen2.5-omni:PATH, qwen3-omni:PATH, vllm:PATH, openai:URL#MODEL, gemini:MODEL, "
        "module:factory",
    ),
]
Seed = Annotated[int, typer.Option(help="seed of clips, donors and orders")]
Out = Annotated[Path, typer.Option("--out", "-o", help="where to write")]
RunFolder = Annotated[Path, typer.Argument(help="the folder of a run (an audit's --out)")]


def fail(message: object, code: int = 2) -> NoReturn:
    """Say what is wrong on stderr and exit."""
    said = in_words(message) if isinstance(message, OSError) else message
    err.print(f"[bold red]error:[/] {plain(said)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def in_words(error: OSError) -> str:
    """An error of the file system: which file, and what is wrong with it, without its number.

    >>> in_words(FileNotFoundError(2, "No such file or directory", "nodir/x.png"))
    'nodir/x.png: no such file or directory'
    """
    name = error.filename2 or error.filename  # of a file that is moved: where to
    if name is None or not error.strerror:
        return str(error)
    if isinstance(error, FileExistsError) and Path(name).is_file():
        return f"{name}: is a file; wants a folder"
    if isinstance(error, IsADirectoryError):
        return f"{name}: is a folder; wants a file"
    return f"{name}: {error.strerror[0].lower()}{error.strerror[1:]}"


def pair(text: str) -> tuple[str, str]:
    """Key and value of ``key=value``. Raises ValueError without the equals sign."""
    key, sep, value = text.partition("=")
    if not sep:
        raise ValueError(f"--set {text}: expected key=value (did you forget the equals sign?)")
    return key.strip(), value.strip()
