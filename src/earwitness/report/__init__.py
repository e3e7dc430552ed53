"""Run folder -> one self-contained page."""
