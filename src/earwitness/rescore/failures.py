"""What another harness wrote in place of an answer: a request that failed is no answer.

Harnesses keep a crashed or timed-out request as a text ("", "[REQUEST FAILED]", "ERROR: CUDA out of memory"), and
their parsers then find an option in it. Here such a text is a failure, with its words as the reason. "I cannot hear
any audio" is an answer (and under mute the right one), so only texts that a program wrote count.

Function: ``failure``.
"""

from __future__ import annotations

import re

_MARKS = re.compile(
    r"\[?(?:lmms_eval_)?(?:request|generation|inference|api)[ _](?:failed|error)\b.*"  # lmms-eval, served models
    r"|\[?(?:error|failed|failure|timeout|timed out|exception)\]"
    r"|errors?\s*:.*"  # MAD's eval_batch.py writes "ERROR: <exception>"
    r"|<(?:error|failed|empty)>.*"
    r"|(?-i:(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b)\s*[:(].*"  # RuntimeError: ..., torch.OutOfMemoryError: ...
    r"|traceback \(most recent call last\).*"
    r"|cuda (?:out of memory|error).*"
    r"|failed to obtain answer(?: via api)?\b.*"  # VLMEvalKit's mark of an API that gave up
    r"|(?:http )?(?:error )?(?:429|500|502|503|504)\b[ :]*(?:too many requests|internal server error|bad gateway"
    r"|service unavailable|gateway timeout)?\W*"
    r"|nan|null|undefined",
    re.I | re.S,
)


def failure(text: object) -> str | None:
    """Why a harness's output is no answer ("empty answer", or the failure it wrote down); None where it is one."""
    if text is None or not isinstance(text, str):
        return f"no text: {text!r}" if text is not None else "no answer was kept"
    if not text.strip():
        return "empty answer"
    return f"the harness wrote: {text.strip()[:300]}" if _MARKS.fullmatch(text.strip()) else None
