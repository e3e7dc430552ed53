"""What a chat completion request asks for: its JSON to one item and the bytes of its media, or a refusal.

A parameter that is dropped without a word changes what is measured. So everything in a request is used, is known
to change nothing here (``seed``, ``top_p`` under greedy decoding, ``uuid``: content hashes are ours), or is refused
with an error that names it. Media come inside the request only: addresses are not opened, files are not read.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import msgspec

from earwitness.records import Item, View, digest

MAX_TOKENS = 256  # new tokens where the request does not say
MOST_TOKENS = 4096
MOST_TOP = 20  # as in OpenAI's own interface
MOST_TEXT = 400_000  # characters of a question, about 100,000 tokens: more would hold up everybody else's
NEUTRAL = {"n": 1, "frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1}
TYPES = {
    "video_url": ("video/", "application/octet-stream"),
    "image_url": ("image/png", "image/jpeg"),
}


class Refusal(ValueError):
    """A request that is not answered: the HTTP status, what to tell, and which part of the request it is about."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None):
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


class Blob(NamedTuple):
    """A medium's file as sent, and where in the request it stood."""

    data: bytes
    where: str


@dataclass(frozen=True, eq=False)
class Parts:
    """The media of a request: one video file or several pictures, and one sound file; all may be missing."""

    video: Blob | None = None
    images: tuple[Blob, ...] = ()
    sound: Blob | None = None
    inside: bool = False  # whether the video's own sound track is fed

    @cached_property
    def key(self) -> str:
        """Content hash: equal keys mean equal media."""
        blobs = [b if b is None else b.data for b in (self.video, self.sound, *self.images)]
        return digest(self.inside, *(b"" if b is None else digest(b) for b in blobs))


class Asked(NamedTuple):
    """One request, read: what to ask, about which media, and how to reply."""

    item: Item
    parts: Parts
    top: int | None  # likeliest tokens to tell beside each token; None = no log-probs
    stream: bool
    usage: bool  # whether a stream ends with its usage
    note: str | None


# --- the JSON, field by field ----------------------------------------------------------------------------------


class _Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    detail: str | None = None  # OpenAI's hint on the picture's size: the model's own view decides here


class _Sound(msgspec.Struct, forbid_unknown_fields=True):
    data: str
    format: Literal["wav", "flac", "mp3"]


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "video_url", "image_url", "input_audio"]
    text: str | None = None
    video_url: _Url | None = None
    image_url: _Url | None = None
    input_audio: _Sound | None = None
    uuid: str | None = None


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part]
    name: str | None = None


class _StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = False


class _MediaOptions(msgspec.Struct, forbid_unknown_fields=True):
    use_audio_in_video: bool = False
    fps: float | None = None


class _VideoFrames(msgspec.Struct, forbid_unknown_fields=True):
    num_frames: Literal[-1]  # all that the view samples, which is what is done here


class _MediaFrames(msgspec.Struct, forbid_unknown_fields=True):
    video: _VideoFrames | None = None


class _Own(msgspec.Struct, forbid_unknown_fields=True):
    """What only this server takes: choices to score, and what control models (``fake:``) need to know."""

    choices: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)] = ()
    protocol: str = "check"  # controls then describe the arrays they got
    question: str | None = None
    style: str = "standard"
    seen: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    asked: str | None = None
    offset: float = 0.0


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: list[_Turn]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)] | None = None
    temperature: float | None = None
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=MOST_TOP)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: Literal[False] | None = None
    mm_processor_kwargs: _MediaOptions | None = None
    media_io_kwargs: _MediaFrames | None = None
    earwitness: _Own | None = None


def read(body: bytes, *, model: str, view: View, request: str) -> Asked:
    """The request in ``body``, for the model of that name and view; ``request`` becomes the item's id.

    Raises
    ------
    Refusal
        Where the request is not valid JSON, names another model (404), or asks for what is not done here.
    """
    sent = _parsed(body)
    if sent.model != model:
        raise Refusal(
            f"there is no model {sent.model!r} here; this server has {model!r}",
            param="model",
            status=404,
            code="model_not_found",
        )
    _check_sampling(sent)
    prompt, parts, note = _conversation(sent)
    options, own = sent.mm_processor_kwargs or _MediaOptions(), sent.earwitness or _Own()
    _check_media(parts, options, view)
    told = msgspec.structs.asdict(own) | {"question": own.question or _question(parts)}
    item = Item(
        id=request, condition="original", clip=parts.key, source=parts.key, group=request, prompt=prompt,
        target=None, decode=sent.max_completion_tokens or sent.max_tokens or MAX_TOKENS, **told,
    )  # fmt: skip
    return Asked(
        item=item,
        parts=parts,
        top=(sent.top_logprobs or 0) if sent.logprobs else None,
        stream=bool(sent.stream),
        usage=bool(sent.stream_options and sent.stream_options.include_usage),
        note=note,
    )


def _parsed(body: bytes) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$")
        param = path.strip("`.").removeprefix("[...]") or None
        if "unknown field" in said:
            unknown = said.split("`")[1]
            param = f"{param}.{unknown}" if param else unknown
            said = f"unknown parameter {param!r}: it would be left out without a word here, so it is refused"
        raise Refusal(f"{said} (in {param})" if param and param not in said else said, param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(f"the request's body is no JSON: {error}") from error


def _check_sampling(sent: _Body) -> None:
    if sent.temperature:
        raise Refusal(
            f"temperature {sent.temperature:g}: answers are greedy here; say 0 or leave it out", param="temperature"
        )
    for name, neutral in NEUTRAL.items():
        value = getattr(sent, name)
        if value is not None and value != neutral:
            raise Refusal(
                f"{name} {value:g}: one greedy answer is all that is given here; say {neutral} or leave it out",
                param=name,
            )
    if sent.top_logprobs and not sent.logprobs:
        raise Refusal("top_logprobs needs logprobs: true", param="top_logprobs")


def _conversation(sent: _Body) -> tuple[str, Parts, str | None]:
    """The question's text, its media, and what the reply must note about them."""
    system = [(n, t) for n, t in enumerate(sent.messages) if t.role in ("system", "developer")]
    user = [(n, t) for n, t in enumerate(sent.messages) if t.role == "user"]
    if (
        len(user) != 1
        or len(system) + len(user) < len(sent.messages)
        or system != list(enumerate(sent.messages))[:-1]
    ):
        roles = ", ".join(t.role for t in sent.messages) or "none"
        raise Refusal(
            f"messages with the roles {roles}: this server takes one user turn, after system text if there is any "
            "(put an earlier exchange into the one turn's text)",
            param="messages",
        )
    before = []
    for n, turn in system:
        text, media = _read_turn(turn, n)
        if media:
            raise Refusal("media in a system turn: put them into the user turn", param=f"messages[{n}]")
        before.append(text)
    text, media = _read_turn(user[0][1], user[0][0])
    if not text.strip():
        raise Refusal("the user turn asks nothing: it has no text", param=f"messages[{user[0][0]}].content")
    prompt = "\n\n".join([*before, text])
    if len(prompt) > MOST_TEXT:
        raise Refusal(f"{len(prompt)} characters of text; at most {MOST_TEXT} are read", param="messages")
    inside = bool(sent.mm_processor_kwargs and sent.mm_processor_kwargs.use_audio_in_video)
    note = "the system text was put before the question: a system turn is not set by request here"
    return prompt, _grouped(media, inside), note if before else None


def _read_turn(turn: _Turn, n: int) -> tuple[str, list[tuple[str, Blob]]]:
    if isinstance(turn.content, str):
        return turn.content, []
    texts: list[str] = []
    media: list[tuple[str, Blob]] = []
    for m, part in enumerate(turn.content):
        where = f"messages[{n}].content[{m}].{part.type}"
        held = getattr(part, part.type)
        others = {"text", "video_url", "image_url", "input_audio"} - {part.type}
        if held is None or any(getattr(part, other) is not None for other in others):
            raise Refusal(f"a part of type {part.type!r} has the field {part.type!r} and no other's", param=where)
        if isinstance(held, str):
            texts.append(held)
        elif isinstance(held, _Sound):
            media.append((part.type, Blob(_unpacked(held.data, where), where)))
        else:
            media.append((part.type, Blob(_data(held.url, part.type, where), where)))
    return "\n".join(texts), media


def _data(url: str, kind: str, where: str) -> bytes:
    """The bytes of a ``data:`` address; every other address is refused unopened."""
    scheme = url.partition(":")[0].lower() if ":" in url[:16] else "none"
    if scheme != "data":
        raise Refusal(
            f"addresses ({scheme}:) are not opened here: send the media inside the request, as "
            f"data:{TYPES[kind][0].removesuffix('/')}{'/mp4' if kind == 'video_url' else ''};base64,...",
            param=where,
        )
    head, comma, data = url[5:].partition(",")
    mime, *options = (part.strip().lower() for part in head[:256].split(";"))
    if not comma or "base64" not in options:
        raise Refusal("a data address must be data:TYPE;base64,DATA", param=where)
    if not mime.startswith(TYPES[kind]) or mime == "video/jpeg":
        raise Refusal(
            f"{kind} of type {mime or 'none'!r}: known are {', '.join(TYPES[kind])} (send pictures as image_url)",
            param=where,
        )
    return _unpacked(data, where)


def _unpacked(data: str, where: str) -> bytes:
    try:
        made = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"no base64 ({error}): was it cut or quoted twice?", param=where) from error
    if not made:
        raise Refusal("there are no bytes in it", param=where)
    return made


def _grouped(media: list[tuple[str, Blob]], inside: bool) -> Parts:
    of = {kind: [blob for k, blob in media if k == kind] for kind in ("video_url", "image_url", "input_audio")}
    videos, images, sounds = of["video_url"], of["image_url"], of["input_audio"]

    def too_many(blob: Blob, why: str) -> NoReturn:
        raise Refusal(f"{why}: one clip is asked about at a time", param=blob.where)

    if len(videos) > 1:
        too_many(videos[1], f"{len(videos)} videos")
    if len(sounds) > 1:
        too_many(sounds[1], f"{len(sounds)} sounds")
    if videos and images:
        too_many(images[0], "a video and pictures")
    if videos and sounds and inside:
        too_many(sounds[0], "a sound beside a video whose own sound is used (use_audio_in_video)")
    return Parts(
        video=videos[0] if videos else None,
        images=tuple(images),
        sound=sounds[0] if sounds else None,
        inside=inside and bool(videos),
    )


def _check_media(parts: Parts, options: _MediaOptions, view: View) -> None:
    if options.use_audio_in_video and parts.video is None:
        raise Refusal(
            "use_audio_in_video without a video_url part (vLLM needs it for a video with its sound only)",
            param="mm_processor_kwargs.use_audio_in_video",
        )
    if options.fps is not None and abs(options.fps - view.fps) > 1e-6:
        raise Refusal(
            f"fps {options.fps:g}: this model was started to be fed {view.fps:g} frames a second; say that, or "
            "leave it out",
            param="mm_processor_kwargs.fps",
        )


def _question(parts: Parts) -> str:
    """What a control describes where the request does not say: the sound, or the picture where that is all."""
    return "visual" if parts.sound is None and not parts.inside else "audio"


def request_id(header: str | None) -> str | None:
    """The client's own id of a request, fit to be sent back; None without one. Raises Refusal for an unfit one."""
    if header is None:
        return None
    if not re.fullmatch(r"[\w.:/+=-]{1,200}", header, re.ASCII):
        raise Refusal("X-Request-Id must be 1 to 200 letters, digits or .:/+=_-", param="X-Request-Id")
    return header
