#!/usr/bin/env bash
# The calibration: a model whose grounding is known, at five dials, audited on real photos and sounds.
#
#   bash runs/dose_response.sh            # the committed CC0 sources: offline but for the witnesses' weights
#   bash runs/dose_response.sh --more     # all sources: fetches two Debian packages by name (230 MB)
#
# CLIPS: clips of each pair (1). Everything is written below $OUT (runs/dose); each step goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/dose} PYTHON=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
command -v "$PYTHON" > /dev/null || { echo "no $PYTHON: make audit sets it up, or say PYTHON=..." >&2; exit 2; }
"$PYTHON" -m earwitness.curate.checks.witnesses_fetch
"$PYTHON" -m earwitness.cli curate starter "$@" --clips "${CLIPS:-1}" --out "$OUT/clips"
"$PYTHON" benchmarks/dose_response.py "$OUT/clips" --out "$OUT" ${DOCS:+--docs "$DOCS"}
