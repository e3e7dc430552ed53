"""Any OpenAI-compatible server as a model: vLLM, SGLang, hosted ones, ``earwitness serve``.

``openai:URL#MODEL``. A clip travels in one of three ways (``parts``):

============  ===================================================================================================
video         one mp4 with its sound inside, and ``use_audio_in_video`` with each request (vLLM, earwitness serve)
video+audio   a silent mp4 and a wav
frames+audio  pictures with their times in words, and a wav (hosted models that take no video)
============  ===================================================================================================

Greedy: temperature 0 and a seed. Each request carries an id of its own, and a reply that bears another request's id
is a fault. Each media part carries a ``uuid`` made from the content of picture *and* sound: a server's processor
cache can then never serve one condition's features for another's. A parameter that a server refuses is left out for
the rest of the run and said in ``decoding``; one without which the sound would be lost ends the run instead.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from earwitness.models import openai_reply as reply
from earwitness.models import payload
from earwitness.models.budget import NOTHING, Budget, Usage
from earwitness.models.openai_link import Link, address
from earwitness.models.served import Fatal, ItemFault, Line, Reply, Transient, ask_all, stream
from earwitness.records import Answer, Item, Media, View

if TYPE_CHECKING:
    import openai

PARTS = ("video", "video+audio", "frames+audio")
CHOICE_LOGPROBS = ("auto", "top", "prompt", "off")
MAX_PIXELS = 224 * 224
TOP = 20  # rivals of the first token: the most that OpenAI's API gives
DROPPABLE = (
    "top_logprobs", "logprobs", "seed", "uuid", "media_io_kwargs", "mm_processor_kwargs", "temperature",
    "max_tokens",
)  # fmt: skip
REFUSING = re.compile(
    r"unknown|unsupported|unrecogni[sz]ed|unexpected|extra|invalid|not (?:support|permit|allow|available)|does not"
)


class OpenAIModel:
    """A model behind an OpenAI-compatible server.

    Parameters
    ----------
    rest : URL#MODEL; the model may be left out where the server has only one.
    name : ignored; the name is openai:URL#MODEL as it was understood.
    fps, max_pixels : how clips are sampled before they are sent; default: as ``earwitness serve`` says that its
        model wants them; for other servers 2 frames a second of 224 x 224 pixels at most.
    parts : video, video+audio or frames+audio, see above.
    concurrency, timeout, retries : see served.Line; ``timeout`` is that of one request.
    max_cost, price_in, price_out, max_tokens : see served.Budget.
    choice_logprobs : "auto" (as "top", or by earwitness serve itself), "top" (where each choice is a single token
        among the first one's rivals), "prompt" (vLLM: one more request a choice), "off".
    audio_codec : of the sound inside an mp4: flac (exact) or aac.

    Raises ValueError where the URL, an option or the key is wrong, the server does not answer or lacks the model.
    """

    def __init__(
        self, rest: str, *, name: str | None = None, fps: float | None = None, max_pixels: int | None = None,
        parts: str = "video", concurrency: int = 16, timeout: float = 300.0, retries: int = 5,
        max_cost: float | None = None, max_tokens: int | None = None, price_in: float | None = None,
        price_out: float | None = None, choice_logprobs: str = "auto", audio_codec: str = "flac",
    ) -> None:  # fmt: skip
        for what, value, known in (("parts", parts, PARTS), ("choice_logprobs", choice_logprobs, CHOICE_LOGPROBS)):
            if value not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, got {value!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout}")
        self.url, wanted = address(rest)
        self._parts, self._choices, self._packer = parts, choice_logprobs, payload.Packer(audio_codec)
        budget = Budget(max_cost, price_in, price_out, max_tokens)
        # A choice takes a request of its own with "prompt"; all of them must fit the time of one try.
        wall = timeout * (8 if choice_logprobs == "prompt" else 1) + 5.0
        self._line = Line(name or "", concurrency, wall, retries, budget=budget)
        self._link = Link(self.url, timeout)
        self._dropped: frozenset[str] = frozenset()
        self._echoes = self._answered = self._continued = False
        try:
            found = self._link.models()
            self.model = wanted or _only(found, self.url)
        except ValueError:
            self.close()
            raise
        self.name = self._line.model = f"openai:{self.url}#{self.model}"
        entry = found.get(self.model)
        if found and entry is None:
            self.close()
            raise ValueError(f"{self.url} has no model {self.model!r}: {_listing(found)}")
        self._listed_here = entry is not None
        self._own = entry is not None and entry.get("owned_by") == "earwitness"
        # Not ``created``: vLLM and SGLang set it to the time of the listing, and a run could not be resumed.
        root = entry.get("root") if entry else None
        try:
            self.view = _view(entry if self._own and entry is not None else {}, fps, max_pixels)
        except ValueError:
            self.close()
            raise
        self.revision = "served" if entry is None else self.model + (f" from {root}" if root else "")
        exact = choice_logprobs == "prompt" or (choice_logprobs == "auto" and self._own)
        self.abilities = frozenset({"generates", "streams"} | ({"logprobs"} if exact else set()))

    @property
    def budget(self) -> Budget:
        """What the run may cost and has cost."""
        return self._line.budget

    @property
    def counts(self) -> dict[str, float]:
        """Requests, retries, faults by name, tokens and cost of this process."""
        return {**self._line.counts, **{f"refused parameter {name}": 1.0 for name in sorted(self._dropped)}}

    @property
    def decoding(self) -> str:
        """How answers are decoded, and what the server refused of it, in words for the run's record."""
        how = (
            "greedy (temperature 0)" if "temperature" not in self._dropped else "as the server samples: NOT greedy"
        )
        refused = f"; refused by the server: {', '.join(sorted(self._dropped))}" if self._dropped else ""
        checked = "" if self._echoes or not self._answered else "; answers not verifiable by request id"
        return f"{how}, parts={self._parts}, sound as {self._packer.codec}, served{refused}{checked}"

    def stream(self, pairs: Iterable[tuple[Item, Media]]) -> Iterator[Answer]:
        """Answers as they come, see served.stream."""
        return stream(pairs, self._ask, self._line)

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """Answers to the items, in their order. Raises served.Fatal or served.BudgetSpent, both ValueErrors."""
        return ask_all(items, media, self._ask, self._line)

    def close(self) -> None:
        """Close the connections."""
        self._link.client.close()

    # --- one try of one item -----------------------------------------------------------------------------------

    def _ask(self, item: Item, media: Media) -> Reply:
        body = self._exchange(partial(self._request, item, media))
        text = reply.text_of(body, item.decode)
        self._answered = True
        usage = body.used
        video, audio = reply.media_tokens(body)
        fed = msgspec.structs.replace(
            payload.sent(media), video_tokens=video, audio_tokens=audio, prompt_tokens=usage.prompt or None
        )
        own = body.earwitness
        if own is not None and own.fed is not None:  # our own server: measured behind the model's preprocessing
            fed = msgspec.structs.replace(own.fed, measured="model")
        logprobs = None
        if item.choices and self._choices != "off":
            if own is not None and own.choice_logprobs:
                logprobs = own.choice_logprobs if set(own.choice_logprobs) == set(item.choices) else None
            elif self._choices == "prompt":
                logprobs, more = self._continuations(item, media, usage.prompt)
                usage = usage.plus(more)
            else:
                logprobs = reply.first_token(body, item.choices)
        return Reply(text, logprobs, reply.logprob_of(body), fed, usage)

    def _continuations(self, item: Item, media: Media, before: int) -> tuple[dict[str, float] | None, Usage]:
        """Each choice as the end of the prompt, where vLLM tells the prompt's log-probabilities."""
        found: dict[str, float] = {}
        usage = NOTHING
        for choice in item.choices:
            try:
                body = self._exchange(partial(self._request, item, media, choice))
            except ItemFault as error:
                if self._continued:
                    raise
                raise Fatal(
                    f"{self.name} gives no log-probabilities of prompts ({error}): --set choice_logprobs=top"
                ) from None
            self._continued = True
            usage = usage.plus(body.used)
            value = reply.continued(body, choice, before)
            if value is None:
                self._line.tally("choice log-probs not exact")
                return None, usage
            found[choice] = value
        return found, usage

    def _request(self, item: Item, media: Media, choice: str | None = None) -> dict[str, Any]:
        content = self._content(media)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {
                    "role": "user",
                    "content": [*content, {"type": "text", "text": item.prompt}] if content else item.prompt,
                }
            ],
            "temperature": 0,
            "seed": 0,
            "max_tokens": item.decode,
            "logprobs": True,
        }
        extra: dict[str, Any] = {}
        if any(part["type"] == "video_url" for part in content):
            inside = self._parts == "video" and media.wave is not None
            extra["mm_processor_kwargs"] = {"use_audio_in_video": inside, "fps": self.view.fps}
            extra["media_io_kwargs"] = {"video": {"num_frames": -1}}  # all: vLLM takes 32 unless told
        if item.choices and choice is None:
            if self._own and self._choices == "auto":
                extra["earwitness"] = {"choices": list(item.choices)}
            elif self._choices in ("auto", "top"):
                body["top_logprobs"] = TOP
        if choice is not None:
            body["messages"].append({"role": "assistant", "content": choice})
            extra |= {"add_generation_prompt": False, "continue_final_message": True, "prompt_logprobs": 0}
            body["max_tokens"] = 1
        if "max_tokens" in self._dropped:
            body["max_completion_tokens"] = body["max_tokens"]
        if "logprobs" in self._dropped:
            body.pop("top_logprobs", None)
        for name in self._dropped:
            body.pop(name, None)
            extra.pop(name, None)
        return {**body, "extra_body": extra}

    def _content(self, media: Media) -> list[dict[str, Any]]:
        """The clip as content parts; none for a question about nothing but text."""
        out: list[dict[str, Any]] = []
        inside = self._parts == "video" and media.wave is not None
        if media.frames is not None and self._parts == "frames+audio":
            for n, (when, data) in enumerate(payload.images(media, "png")):
                out.append({"type": "text", "text": f"Frame at {when:.2f} s:"})
                out.append(self._part("image_url", "image/png", data, f"{media.video_hash}:{n}"))
        elif media.frames is not None:
            data = self._packer.video(media, sound=inside)
            key = f"{media.video_hash}:{media.audio_hash if inside else None}:{self._packer.codec}"
            out.append(self._part("video_url", "video/mp4", data, key))
        if media.wave is not None and (media.frames is None or not inside):
            sound = {"data": base64.b64encode(payload.wav(media)).decode(), "format": "wav"}
            out.append(self._marked({"type": "input_audio", "input_audio": sound}, f"{media.audio_hash}"))
        return out

    def _part(self, kind: str, mime: str, data: bytes, key: str) -> dict[str, Any]:
        url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
        return self._marked({"type": kind, kind: {"url": url}}, key)

    def _marked(self, part: dict[str, Any], key: str) -> dict[str, Any]:
        return part if "uuid" in self._dropped else {**part, "uuid": key}

    # --- over the wire -----------------------------------------------------------------------------------------

    def _exchange(self, build: Callable[[], dict[str, Any]]) -> reply.Body:
        """Send what ``build`` makes and check that the reply is one to it; refused parameters are left out."""
        import openai

        while True:
            asked, request = reply.MARK + uuid.uuid4().hex, build()
            try:
                raw = self._link.client.chat.completions.with_raw_response.create(
                    **request, extra_headers={"X-Request-Id": asked}
                )
            except openai.OpenAIError as error:
                if isinstance(error, openai.APIStatusError) and error.status_code in (400, 422):
                    name = self._refused(error, request)
                    if name:
                        self._dropped |= {name}
                        continue
                raise self._link.fault(error, self.name) from None
            body = reply.decode(self._link.scrub(raw.content))
            self._check_reply(body, raw.headers.get("X-Request-Id"), asked)
            return body

    def _check_reply(self, body: reply.Body, echoed: str | None, asked: str) -> None:
        if reply.check_request(body, echoed, asked):
            self._echoes = True
        elif self._echoes:
            raise Transient(
                "answer for another request: the reply names no request, though this server's replies did before",
                usage=body.used,
            )
        else:
            self._line.tally("replies not verifiable by request id")
        dated = body.model is not None and re.match(re.escape(self.model) + r"-\d", body.model)  # alias -> snapshot
        if self._listed_here and body.model not in (None, "", self.model) and not dated:
            raise Transient(
                f"another model answered: asked {self.model}, the reply is from {body.model}", usage=body.used
            )

    def _refused(self, error: openai.APIStatusError, request: dict[str, Any]) -> str | None:
        """The parameter that a 400 is about and that can be left out; None where it is about the item.

        Raises Fatal where the run cannot do without what is refused.
        """
        said, named = self._link.clean(error), str(getattr(error, "param", None) or "")
        if not REFUSING.search(said.lower()) and not named:
            return None
        where = named or said
        name = next((n for n in DROPPABLE if re.search(rf"\b{n}\b", where) and _carries(request, n)), None)
        if name == "logprobs" and _carries(request, "top_logprobs"):  # "at most 5 logprobs": first ask for fewer
            name = "top_logprobs"
        kwargs = request["extra_body"].get("mm_processor_kwargs") or {}
        if name == "mm_processor_kwargs" and kwargs.get("use_audio_in_video"):
            raise Fatal(
                f"{self.name} refuses mm_processor_kwargs ({said}), so it would drop the sound that is inside the "
                "video: --set parts=video+audio or --set parts=frames+audio sends the sound apart"
            )
        if name is None and not self._answered:
            for kind, advice in (
                ("video_url", "--set parts=frames+audio sends single pictures"),
                ("input_audio", "it takes no sound, so there is nothing to audit (another model, or parts=video?)"),
            ):
                if kind in f"{named} {said}":
                    raise Fatal(f"{self.name} takes no {kind} parts ({said}): {advice}")
        return name


def _carries(request: dict[str, Any], name: str) -> bool:
    if name == "uuid":
        content = request["messages"][0]["content"]
        return any("uuid" in part for part in content if isinstance(part, dict))
    return name in request or name in request["extra_body"]


def _view(entry: dict[str, Any], fps: float | None, max_pixels: int | None) -> View:
    """The view that a server's listing names for its model, or ours; what the user says goes first."""
    for what, value in (("fps", fps), ("max_pixels", max_pixels)):
        if value is not None and not value > 0:
            raise ValueError(f"{what} must be above 0, got {value:g}")
    own = entry.get("earwitness")
    view = View(max_pixels=MAX_PIXELS)
    if isinstance(own, dict) and "view" in own:
        try:
            view = msgspec.convert(own["view"], View)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"the server names a view that is none: {error} (another version of earwitness?)"
            ) from None
        if fps is not None and abs(fps - view.fps) > 1e-6:
            raise ValueError(
                f"fps={fps:g}: this server says that its model was started to be fed {view.fps:g} frames a second, "
                "and refuses others: leave fps out"
            )
    if max_pixels is not None:
        view = msgspec.structs.replace(view, size=None, max_pixels=max_pixels)
    return view if fps is None else msgspec.structs.replace(view, fps=fps)


def _only(found: dict[str, Any], url: str) -> str:
    if len(found) == 1:
        return next(iter(found))
    raise ValueError(f"which model of {url}? {_listing(found)}: say openai:{url}#MODEL")


def _listing(found: dict[str, Any]) -> str:
    return f"it serves {', '.join(sorted(found)[:20])}" if found else "it does not say which it has"
