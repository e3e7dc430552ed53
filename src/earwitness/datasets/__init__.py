"""Clips with labels: one file per source."""
