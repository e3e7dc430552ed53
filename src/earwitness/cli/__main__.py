"""``python -m earwitness.cli``."""

from earwitness.cli import main

main()
