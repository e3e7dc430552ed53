"""What Gemini's replies and refusals mean: an answer with its receipt, or one of the three faults of ``served``.

A reply that was blocked, stopped or empty is a fault; one that was cut at its length limit is an answer, as it is
for local models. Thoughts are no part of the text. Token counts are the service's own.

Functions: :func:`read` (a reply), :func:`fault` (a refusal with an HTTP status).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from earwitness.models import served
from earwitness.models.budget import Usage
from earwitness.models.served import Fatal, ItemFault, Reply, Transient
from earwitness.records import Fed

CROWDED = (429, 503, 504)
AGAIN = (408, 409, 429, 499, 500, 502, 503, 504)


def read(got: Any, fed: Fed) -> Reply:
    """The answer in a ``GenerateContentResponse``; ``fed`` is the receipt of what was sent.

    Raises
    ------
    ItemFault
        Where the prompt was blocked, the answer stopped (SAFETY, RECITATION, ...), or nothing but thoughts came.
    Transient
        Where nothing came at all, which another try may mend.
    """
    usage, tokens = _usage(got.usage_metadata)
    feedback = got.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        raise ItemFault(f"blocked: {_word(feedback.block_reason)}", usage=usage)
    if not got.candidates:
        raise Transient("empty reply: no candidates", tries=2, usage=usage)
    candidate = got.candidates[0]
    parts = (candidate.content.parts if candidate.content is not None else None) or []
    text = "".join(p.text for p in parts if p.text and not p.thought).strip()
    reason = _word(candidate.finish_reason)
    if reason in ("OTHER", "MALFORMED_RESPONSE"):
        raise Transient(f"stopped: {reason}", tries=2, usage=usage)
    if reason not in ("STOP", "MAX_TOKENS", ""):
        raise ItemFault(f"stopped: {reason}", usage=usage)
    if not text and reason == "MAX_TOKENS":
        raise ItemFault(
            f"no text: all {usage.completion} tokens were used up before an answer began (by thoughts?)",
            usage=usage,
        )
    if not text:
        raise Transient("empty reply: no text", tries=2, usage=usage)
    return Reply(text, None, _logprob(candidate), msgspec.structs.replace(fed, **tokens), usage)


def fault(error: Any, model: str, said: str, keys: str) -> Exception:
    """What an ``APIError`` means for the run.

    Parameters
    ----------
    model : the name answers carry.
    said : the service's message, fit to be shown.
    keys : where the key was looked for, in words.
    """
    said = f"HTTP {error.code} {error.status or ''}".rstrip() + f": {said}"
    details = _details(error)
    quotas = [str(v.get("quotaId", "")) for d in details for v in d.get("violations", []) if isinstance(v, dict)]
    if error.code == 429 and any("perday" in q.lower() for q in quotas):
        return Fatal(
            f"{model}: the quota of the day is used up ({said}). Answers so far are kept: the same command goes on "
            "tomorrow"
        )
    if error.code in AGAIN:
        return Transient(said, _wait(error, details), crowded=error.code in CROWDED)
    if error.code in (401, 403) or any(d.get("reason") == "API_KEY_INVALID" for d in details):
        return Fatal(f"{model}: the service refuses the key in {keys} ({said})")
    if error.code == 404:
        return Fatal(f"{model}: the service has no such model ({said})")
    if error.code == 400 and error.status == "FAILED_PRECONDITION":
        return Fatal(f"{model}: the service cannot be used from here ({said})")
    return ItemFault(said)


def _usage(metadata: Any) -> tuple[Usage, dict[str, int | None]]:
    """What was billed, and how many tokens the service counted of picture and sound."""
    if metadata is None:
        return Usage(), {}
    by: Counter[str] = Counter()
    for d in metadata.prompt_tokens_details or ():
        by[_word(d.modality)] += d.token_count or 0
    prompt = metadata.prompt_token_count
    tokens = {
        "prompt_tokens": prompt,
        "video_tokens": by["VIDEO"] + by["IMAGE"] if by else None,
        "audio_tokens": by["AUDIO"] if by else None,
    }
    said = (metadata.candidates_token_count or 0) + (metadata.thoughts_token_count or 0)
    return Usage(prompt or 0, said), tokens


def _logprob(candidate: Any) -> float | None:
    """Natural-log probability of the whole text: the sum over its tokens, where the service gives each."""
    found = candidate.logprobs_result
    chosen = None if found is None else found.chosen_candidates
    if not chosen or any(c.log_probability is None for c in chosen):
        return None
    return float(sum(c.log_probability for c in chosen))


def _word(value: Any) -> str:
    return "" if value is None else str(getattr(value, "value", value))


def _details(error: Any) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    found = inner.get("details", []) if isinstance(inner, dict) else []
    return [d for d in found if isinstance(d, dict)]


def _wait(error: Any, details: list[dict[str, Any]]) -> float | None:
    """Seconds to wait: google.rpc.RetryInfo ("7s"), else the Retry-After header."""
    for d in details:
        delay = str(d.get("retryDelay", ""))
        if delay.endswith("s"):
            return served.retry_after(delay[:-1])
    headers = getattr(getattr(error, "response", None), "headers", None)
    return None if headers is None else served.retry_after(headers.get("retry-after"))
