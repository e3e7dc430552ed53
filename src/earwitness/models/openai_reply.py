"""Reading a chat completion: the text, or the fault's name; log-probabilities only where they are exact.

HTTP 200 is no proof of an answer. Replies have been seen with no choices, with an empty text, with the server's
error inside, cut off by a filter, and made for somebody else's request. Each is named here; none becomes a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from earwitness.models.budget import Usage
from earwitness.models.served import ItemFault, Transient
from earwitness.records import Fed

EMPTY_TRIES = 3  # an empty reply may be a hiccup; greedy decoding repeats what is not
MARK = "ew-"
OURS = re.compile(MARK + r"[0-9a-f]{32}")  # a request id of ours, wherever a server puts it


class TokenLogprob(msgspec.Struct):
    """A token said, its natural-log probability and its rivals."""

    token: str
    logprob: float
    top_logprobs: list[TokenLogprob] | None = None


class _Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | None = None


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: dict[str, Any] | None = None


class _PromptToken(msgspec.Struct):
    logprob: float
    decoded_token: str | None = None


class _Own(msgspec.Struct):
    fed: Fed | None = None
    choice_logprobs: dict[str, float] | None = None


class Body(msgspec.Struct):
    """The parts of a chat completion that matter here; ``earwitness`` is what ``earwitness serve`` adds."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    prompt_logprobs: list[dict[str, _PromptToken] | None] | None = None
    earwitness: _Own | None = None
    error: Any = None

    @property
    def used(self) -> Usage:
        """Tokens billed."""
        u = self.usage or _Usage()
        return Usage(u.prompt_tokens or 0, u.completion_tokens or 0)


def decode(raw: bytes) -> Body:
    """The body of an HTTP 200. Raises Transient where it is not a chat completion."""
    try:
        body = msgspec.json.decode(raw, type=Body)
    except msgspec.ValidationError as error:
        raise Transient(f"not a chat completion: {error}", tries=EMPTY_TRIES) from None
    except msgspec.DecodeError as error:
        start = raw[:60].decode("utf-8", "replace")
        raise Transient(f"not JSON: {error}; it begins {start!r}", tries=EMPTY_TRIES) from None
    if body.error:
        raise Transient(f"error inside a reply: {str(body.error)[:300]}", usage=body.used)
    return body


def check_request(body: Body, echoed: str | None, asked: str) -> bool:
    """Whether the reply names the request ``asked``; raises Transient where it names another one of ours."""
    found = set(OURS.findall(f"{body.id or ''} {echoed or ''}"))
    if found - {asked}:
        raise Transient(
            f"answer for another request: asked as {asked}, the reply is for {', '.join(sorted(found - {asked}))}",
            usage=body.used,
        )
    return asked in found


def text_of(body: Body, decode_limit: int) -> str:
    """What was said; a refusal is an answer too. Raises ItemFault or Transient where nothing was."""
    if not body.choices:
        raise Transient("empty reply: no choices", tries=EMPTY_TRIES, usage=body.used)
    choice = body.choices[0]
    message, why = choice.message or _Message(), choice.finish_reason
    if why == "content_filter":
        raise ItemFault("content filter: the server's filter stopped the answer", usage=body.used)
    if why in ("abort", "error"):
        raise Transient(f"broken off: finish_reason {why}", usage=body.used)
    content = message.content
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content)
    text = content if content and content.strip() else message.refusal or ""
    if text.strip():
        return text
    if why == "length":
        raise ItemFault(
            f"empty reply: cut off after {decode_limit} tokens without any text (a model that reasons first?)",
            usage=body.used,
        )
    if message.tool_calls:
        raise ItemFault("empty reply: a tool call instead of text", usage=body.used)
    raise Transient(f"empty reply: no text (finish_reason {why})", tries=EMPTY_TRIES, usage=body.used)


def logprob_of(body: Body) -> float | None:
    """Natural-log probability of what was said: the sum over its tokens; None where it is not all there."""
    tokens = _said(body)
    values = [t.logprob for t in tokens]
    # A server's stand-in for "unknown" is a large negative number or minus infinity.
    return sum(values) if values and all(math.isfinite(v) and v > -9000 for v in values) else None


def first_token(body: Body, choices: Sequence[str]) -> dict[str, float] | None:
    """The choices' log-probabilities where each is one whole token among the first one's rivals; else None."""
    tokens = _said(body)[:1]
    if not tokens or not choices:
        return None
    found = {t.token: t.logprob for t in (*tokens, *(tokens[0].top_logprobs or ()))}
    return {c: found[c] for c in choices} if all(c in found for c in choices) else None


def continued(body: Body, choice: str, before: int) -> float | None:
    """Log-probability of ``choice`` as the end of a prompt of ``before`` tokens (by vLLM's prompt_logprobs).

    None unless the tokens after ``before`` spell exactly the choice: a template that puts something between, or
    tokens merged across the border, would give the probability of something else.
    """
    rows = (body.prompt_logprobs or [])[before:]
    if not rows or before + len(rows) != body.used.prompt or any(r is None or len(r) != 1 for r in rows):
        return None
    tokens = [next(iter(row.values())) for row in rows if row]
    if "".join(t.decoded_token or "" for t in tokens) != choice:
        return None
    return sum(t.logprob for t in tokens)


def media_tokens(body: Body) -> tuple[int | None, int | None]:
    """Tokens of picture and of sound in the prompt, where the server tells."""
    details = (body.usage or _Usage()).prompt_tokens_details or {}
    inner = details.get("multimodal_tokens")  # vLLM with --enable-prompt-tokens-details
    by = inner if isinstance(inner, dict) else {}
    video = _first(by.get("video"), by.get("image"), details.get("video_tokens"), details.get("image_tokens"))
    return video, _first(by.get("audio"), details.get("audio_tokens"))


def _first(*values: object) -> int | None:
    return next((v for v in values if isinstance(v, int)), None)


def _said(body: Body) -> list[TokenLogprob]:
    choice = body.choices[0] if body.choices else _Choice()
    return list((choice.logprobs or _Logprobs()).content or ())
