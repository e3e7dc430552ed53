"""``gemini:MODEL``: Google's Gemini models through google-genai, with receipts, a budget, and nothing left behind.

A clip goes out as one mp4 with its sound inside; questions on the same clip share an upload (``gemini_files``). The
service answers with its own count of video and sound tokens. Retries, concurrency and budget are those of
``served``; what replies and refusals mean is in ``gemini_replies``.

Conventions: temperature 0, a fixed seed, one candidate. Keys come from GEMINI_API_KEY or GOOGLE_API_KEY, and appear
in no error. Differs from the papers: they do not say how Gemini was decoded; ours is as greedy as it can be made.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from earwitness.models import payload, served
from earwitness.models.budget import Budget
from earwitness.models.gemini_files import Uploads
from earwitness.models.gemini_replies import fault, read
from earwitness.models.openai_link import trusted
from earwitness.models.served import Fatal, ItemFault, Reply, Transient
from earwitness.records import Answer, Item, Media, View, digest

KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
UPLOADS = ("auto", "always", "never")
LEVELS = ("minimal", "low", "medium", "high")
INLINE = 15_000_000  # bytes of a clip inside a request: as base64 it stays within the service's 20 MB
THOUGHTS = 8192  # tokens of room for thoughts where the model itself decides how long it thinks
VERSION = "v1beta"  # where uploads and video sampling are; releases of google-genai differ in their default
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class GeminiModel:
    """A Gemini model behind the Model protocol.

    Parameters
    ----------
    rest : the model's name, e.g. ``gemini-2.5-flash``.
    fps, max_pixels : how clips are sampled before they are sent (2 a second, 512 x 512 in all); the service is told
        to look at as many frames a second.
    upload : "auto" (a clip of more than 15 MB, or from the second question on), "always" or "never".
    thinking : tokens of thought (0: none, -1: as the model likes), or a level: minimal, low, medium, high. Where a
        model cannot do without thoughts, the default of 0 is given up once, and counted.
    audio_codec : "aac", or "flac" (exact; not known to be read by the service).
    max_cost, max_tokens, price_in, price_out : see ``budget.Budget``.
    base_url : another address of the service (or GEMINI_BASE_URL).

    Raises
    ------
    ValueError
        Where google-genai or the key is missing, the service knows no such model or key, or an option does not fit.
    """

    abilities = frozenset({"generates", "streams"})

    def __init__(
        self,
        rest: str,
        *,
        name: str | None = None,
        fps: float | None = None,
        max_pixels: int | None = None,
        upload: str = "auto",
        thinking: int | str | None = None,
        audio_codec: str = "aac",
        concurrency: int = 8,
        timeout: float = 300.0,
        retries: int = 5,
        backoff: float = 1.0,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
        seed: int = 0,
        base_url: str | None = None,
        poll: float = 0.5,
    ) -> None:
        self.model = rest.removeprefix("models/")
        if not self.model:
            raise ValueError("gemini: names no model: say gemini:MODEL, as in gemini:gemini-2.5-flash")
        if upload not in UPLOADS:
            raise ValueError(f"upload must be one of {', '.join(UPLOADS)}, got {upload!r}")
        if fps is not None and not 0 < fps <= 24:
            raise ValueError(f"fps must lie in (0, 24], which is what the service takes, got {fps}")
        self.name = name or f"gemini:{rest}"
        self.view = View(fps=fps or 2.0, max_pixels=max_pixels or 512 * 512)
        self._seed, self._upload, self._logprobs = seed, upload, True
        self._thinking, self._stubborn = _thinking(0 if thinking is None else thinking), thinking is not None
        budget = Budget(max_cost=max_cost, price_in=price_in, price_out=price_out, max_tokens=max_tokens)
        self.line = served.Line(self.name, concurrency, timeout, retries, backoff, budget)
        self._packer = payload.Packer(audio_codec)
        self._genai = _library()
        self._faults = (self._genai.errors.APIError, *_transport())
        try:
            self._genai.types.ThinkingConfig(**self._thinking or {})
        except ValueError as error:
            raise ValueError(f"thinking={thinking}: too new for this google-genai (1.51 knows levels)") from error
        self._client, self._key = self._connect(base_url)
        self._first: dict[str, str] = {}  # content -> the first item on it
        self._lock = threading.Lock()
        self._tally = _tally(self.line)
        self._files = Uploads(self._client.files, self._faults, self._tally, poll=poll, timeout=timeout)
        weakref.finalize(self, _swept, self._files, self.name)  # also at exit, whatever ended the run
        self.revision = self._revision()

    @property
    def budget(self) -> Budget:
        """What the run may cost and has cost."""
        return self.line.budget

    @property
    def counts(self) -> dict[str, float]:
        """What was asked, billed, uploaded and left out so far."""
        return self.line.counts

    @property
    def decoding(self) -> str:
        """How answers are made, with what the model refused."""
        thinking = "as the model likes" if self._thinking is None else next(iter(self._thinking.values()))
        refused = "" if self._logprobs else "; gives no log-probabilities"
        return f"as greedy as served: temperature 0, seed {self._seed}; thinking {thinking}{refused}"

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order; uploads stay until :meth:`close`. Raises as ``served.stream`` does."""
        return served.ask_all(items, media, self._ask_one, self.line)

    def stream(self, pairs: Iterable[tuple[Item, Media]]) -> Iterator[Answer]:
        """Answers as they come (``served.stream``); when it ends, however it ends, uploads are deleted."""
        try:
            yield from served.stream(pairs, self._ask_one, self.line)
        finally:
            self.close()

    def close(self) -> None:
        """Delete what was uploaded, and warn how many files could not be. The model can be asked again after."""
        self._first.clear()
        left = _swept(self._files, self.name)
        if left:
            self.line.tally("files not deleted", left)

    # --- asking ---
    def _ask_one(self, item: Item, media: Media) -> Reply:
        packed = self._packed(media)
        with self._named_faults(), self._clip(item, media, packed) as parts:
            got = self._generate(item, parts)
        self._tally(f"model version {got.model_version or 'not said'}")
        return read(got, payload.sent(media))

    def _packed(self, media: Media) -> bytes:
        """The clip's file: mp4, or wav where it has no picture; empty for a text-only question."""
        if media.frames is not None:
            return self._packer.video(media)
        return b"" if media.wave is None else payload.wav(media)

    @contextmanager
    def _clip(self, item: Item, media: Media, packed: bytes) -> Iterator[list[Any]]:
        """The parts of a request that hold the clip, inside of it or as an upload."""
        types = self._genai.types
        if not packed:
            yield []
            return
        mime = "audio/wav" if media.frames is None else "video/mp4"
        seen = None if media.frames is None else types.VideoMetadata(fps=self.view.fps)
        key = digest(media.video_hash, media.audio_hash, media.duration)
        with self._lock:
            shared = self._first.setdefault(key, item.id) != item.id
        large = len(packed) > INLINE
        if self._upload == "always" or (self._upload == "auto" and (shared or large)):
            try:
                with self._files.held(key, packed, mime) as file:
                    data = types.FileData(file_uri=file.uri, mime_type=mime)
                    yield [types.Part(file_data=data, video_metadata=seen)]
            except self._genai.errors.APIError as error:
                if error.code in (403, 404) and "file" in str(error.message).lower():
                    self._files.forget(key)
                    raise Transient("file gone: the service has that upload no more") from None
                raise
        elif large:
            raise ItemFault(f"clip too large: {len(packed) / 1e6:.0f} MB do not fit into a request (upload=auto?)")
        else:
            yield [types.Part(inline_data=types.Blob(data=packed, mime_type=mime), video_metadata=seen)]

    def _generate(self, item: Item, parts: list[Any]) -> Any:
        """One request; a parameter that the model refuses is left out from then on, and that is counted."""
        while True:
            logprobs, thinking = self._logprobs, self._thinking
            try:
                return self._client.models.generate_content(
                    model=self.model, contents=[*parts, item.prompt], config=self._config(item, logprobs, thinking)
                )
            except self._genai.errors.APIError as error:
                words = str(error.message).lower()
                if error.code == 400 and logprobs and "logprobs" in words:
                    self._logprobs = False
                    self.line.counts["refused and left out: response_logprobs"] = 1
                elif error.code == 400 and thinking and not self._stubborn and _about_thinking(words):
                    self._thinking = None
                    self.line.counts["refused and left out: thinking 0"] = 1
                else:
                    raise

    def _config(self, item: Item, logprobs: bool, thinking: dict[str, Any] | None) -> Any:
        types = self._genai.types
        budget = -1 if thinking is None else int(thinking.get("thinking_budget", -1))
        return types.GenerateContentConfig(
            temperature=0.0,
            seed=self._seed,
            candidate_count=1,
            max_output_tokens=item.decode + (THOUGHTS if budget < 0 else budget),  # thoughts count as output there
            response_logprobs=True if logprobs else None,
            thinking_config=None if thinking is None else types.ThinkingConfig(**thinking),
        )

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        """The library's exceptions as one of the three faults, without the key."""
        try:
            yield
        except self._genai.errors.APIError as error:
            raise fault(error, self.name, self._clean(error.message), " or ".join(KEYS)) from None
        except self._faults as error:
            late = "timeout" in type(error).__name__.lower()
            words = self._clean(error) or type(error).__name__
            raise Transient(f"{'timeout' if late else 'connection'}: {words}", crowded=late) from None
        except Fatal:
            raise
        except (KeyError, ValueError) as error:  # what the library makes of a reply that is not the protocol's
            raise Transient(f"unreadable reply: {self._clean(error)}", tries=2) from None

    def _clean(self, what: object) -> str:
        text = str(what or "")
        return (text.replace(self._key, "[key]") if self._key else text)[:500]

    # --- connecting ---
    def _connect(self, base_url: str | None) -> tuple[Any, str]:
        """The client and its key ("" where a server on this machine wants none)."""
        key = next((os.environ[k] for k in KEYS if os.environ.get(k)), "")
        options: dict[str, Any] = {"timeout": int(self.line.timeout * 1000), "api_version": VERSION}
        here = False
        address = base_url or os.environ.get("GEMINI_BASE_URL")
        if address:
            split = urlsplit(address)
            here = split.hostname in LOOPBACK
            options["base_url"] = split._replace(netloc=split.netloc.rpartition("@")[2]).geturl()
            if split.scheme != "https" and not here:
                raise ValueError(f"{options['base_url']}: wants https, or anyone on the way can read the key")
        if here:  # else it reads the certificates three times for each client
            verify = {"verify": trusted()}
            options |= {"client_args": verify, "async_client_args": {**verify, "ssl": trusted()}}
        if not key and not here:
            raise ValueError(f"{self.name} needs a key: set the environment variable {KEYS[0]}")
        return self._genai.Client(api_key=key or "none", vertexai=False, http_options=options), key

    def _revision(self) -> str:
        """The version that the service names. A run is resumed by it, so it is asked for until it is known."""
        for tries_left in range(self.line.retries, -1, -1):
            try:
                with self._named_faults():
                    found = self._client.models.get(model=self.model)
                return f"{self.model} version {found.version}" if found.version else "served"
            except Transient as error:
                if not tries_left:
                    raise ValueError(f"{self.name} cannot be reached: {error}") from None
                time.sleep(min(served.LONGEST_BACKOFF, error.retry_after or self.line.backoff))
            except ItemFault as error:
                raise ValueError(f"{self.name}: {error}") from None
        raise AssertionError


def _thinking(asked: int | str) -> dict[str, Any] | None:
    """A budget or a level in the service's own words."""
    if str(asked) in LEVELS:
        return {"thinking_level": str(asked).upper()}
    try:
        tokens = int(asked)
    except ValueError:
        tokens = -2
    if tokens < -1:
        raise ValueError(
            f"thinking must be a number of tokens (0: none, -1: as the model likes) or {', '.join(LEVELS)}, "
            f"got {asked!r}"
        )
    return {"thinking_budget": tokens}


def _about_thinking(words: str) -> bool:
    return "thinking" in words or "budget" in words


def _tally(line: served.Line) -> Callable[[str], None]:
    """``line.tally`` for several threads."""
    lock = threading.Lock()

    def tally(name: str) -> None:
        with lock:
            line.tally(name)

    return tally


def _swept(files: Uploads, name: str) -> int:
    """Delete all uploads; warns of those that could not be, and returns how many."""
    left = files.clear()
    if left:
        warnings.warn(
            f"{name}: {left} uploaded file{'s' if left > 1 else ''} could not be deleted (the service drops them "
            "after 48 hours)",
            stacklevel=2,
        )
    return left


def _library() -> Any:
    try:
        for part in ("errors", "types"):
            importlib.import_module(f"google.genai.{part}")
        return importlib.import_module("google.genai")
    except ModuleNotFoundError as error:
        raise ValueError(f"gemini models need {error.name}: pip install 'earwitness[api]'") from error


def _transport() -> tuple[type[Exception], ...]:
    """The connection faults of whichever HTTP library google-genai uses."""
    found: list[type[Exception]] = []
    for name in ("httpx", "httpx2"):
        try:
            found.append(importlib.import_module(name).TransportError)
        except ModuleNotFoundError:
            continue
    return tuple(found)
