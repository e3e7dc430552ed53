"""The library never prints: no progress bars and no remarks of transformers while weights are read or written.

Function: ``quiet``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers

import transformers  # isort: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of transformers on the terminal within: errors only."""
    log = transformers.utils.logging
    shown, level = log.is_progress_bar_enabled(), log.get_verbosity()
    log.disable_progress_bar()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if shown:
            log.enable_progress_bar()
