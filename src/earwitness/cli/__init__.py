"""The command line: thin verbs, no logic. Exit codes: 0 done, 1 done with too many failed items,
2 bad usage or input, 3 refused by the ear or eye check, 130 stopped by Ctrl-C."""

from earwitness.cli import (
    aligning,
    auditing,
    building,
    checking,
    clips,
    curating,
    eventing,
    exchange,
    looking,
    repairing,
    reviewing,
    starting,
)
from earwitness.cli.app import app


def main() -> None:
    """Entry point."""
    app()


__all__ = [
    "aligning", "app", "auditing", "building", "checking", "clips", "curating", "eventing", "exchange", "looking",
    "main", "repairing", "reviewing", "starting",
]  # fmt: skip
