"""Clips with labels, and published question files: one module per source.

``opening`` turns what stands after ``--clips`` into a clip set; ``folder`` and ``labels`` read clips of one's
own; ``question_file`` holds what the formats share, and each format is a module with its licence, its source and
what was read of it (docs/question_files.md has them in one table).
"""
