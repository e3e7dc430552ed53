"""The way to an OpenAI-compatible server: its address, the key, what it serves, what its errors mean.

The key comes from the environment only and is cut out of whatever a server or the library says.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from earwitness.models.served import Fatal, ItemFault, Transient, retry_after

if TYPE_CHECKING:
    import openai

CROWDED = frozenset({408, 429, 503, 504, 529})
PASSING = CROWDED | {409, 425}  # and all 5xx
NO_KEY = ("", "none", "EMPTY")


class Link:
    """An open way to the server of ``url``, with the key that the environment holds for it.

    Raises ValueError where the key or the openai library is missing.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.timeout = url, timeout
        self._secret = _key(url)
        try:
            import openai
        except ModuleNotFoundError as error:
            raise ValueError(f"openai:{url} needs the openai library: pip install 'earwitness[api]'") from error
        # No proxy between this machine and itself. Retries are served.stream's.
        http = openai.DefaultHttpxClient(trust_env=False, verify=trusted()) if _loopback(url) else None
        self.client = openai.OpenAI(
            api_key=self._secret, base_url=url, timeout=timeout, max_retries=0, http_client=http
        )

    def models(self) -> dict[str, dict[str, Any]]:
        """What the server lists, by id; empty where it has no listing.

        Raises ValueError where it cannot be asked.
        """
        import openai

        try:
            raw = self.client.with_options(timeout=20.0, max_retries=2).models.with_raw_response.list()
            data = msgspec.json.decode(raw.content)
        except openai.APIStatusError as error:
            if error.status_code in (404, 405, 501):
                return {}
            key = " (is OPENAI_API_KEY or EARWITNESS_API_KEY right?)" if error.status_code in (401, 403) else ""
            raise ValueError(f"{self.url}/models: HTTP {error.status_code}: {self.clean(error)}{key}") from None
        except openai.APIConnectionError as error:
            why = self.clean(error.__cause__ or error)
            raise ValueError(f"no server answers at {self.url}: {why} (not started, or another port?)") from None
        except msgspec.DecodeError:
            raise ValueError(
                f"{self.url}/models is not JSON: is it the URL of an API (does it end in /v1)?"
            ) from None
        rows = data.get("data") if isinstance(data, dict) else None
        return {str(row["id"]): row for row in rows or () if isinstance(row, dict) and "id" in row}

    def fault(self, error: openai.OpenAIError, model: str) -> Exception:
        """What an error of the library means for the run: Transient, ItemFault or Fatal."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return Transient(f"timeout: no answer within {self.timeout:g} s", crowded=True)
        if not isinstance(error, openai.APIStatusError):
            why = self.clean(error.__cause__ or error)
            return Transient(f"connection: {why} (refused, or cut before the end of the reply)")
        code, said = error.status_code, self.clean(error)
        if code in (401, 403):
            return Fatal(
                f"{model} refuses the key (HTTP {code}: {said}): is OPENAI_API_KEY or EARWITNESS_API_KEY right?"
            )
        if code == 402 or getattr(error, "code", None) == "insufficient_quota":
            return Fatal(f"{model} wants to be paid (HTTP {code}: {said}); answers so far are kept")
        if code in (404, 405):
            return Fatal(f"{model}: no such model, or not the URL of an API (HTTP {code}: {said})")
        if code in PASSING or code >= 500:
            wait = retry_after(error.response.headers.get("Retry-After"))
            return Transient(f"HTTP {code}: {said}", wait, crowded=code in CROWDED)
        return ItemFault(f"HTTP {code}: {said}")

    def scrub(self, data: bytes) -> bytes:
        """What came back, without the key, should the server repeat it."""
        return data if self._secret in NO_KEY else data.replace(self._secret.encode(), b"***")

    def clean(self, error: object) -> str:
        """What an error says, in one line of 300 letters at most, without the key."""
        body = getattr(error, "body", None)
        said = body.get("message") if isinstance(body, dict) else None
        text = " ".join(str(said or error).split())
        if self._secret not in NO_KEY:
            text = text.replace(self._secret, "***")
        return re.sub(r"\bsk-[\w*-]+", "***", text)[:300]


def address(rest: str) -> tuple[str, str]:
    """(URL, model) of URL#MODEL, the model "" where none is named.

    Raises ValueError for what is no URL, and for one that carries a secret, without repeating it: the name of a
    model is written into the run's record.
    """
    url, _, model = rest.strip().partition("#")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("openai: expected openai:URL#MODEL, as in openai:http://127.0.0.1:8000/v1#my-model")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ValueError(
            "openai: a user name, password or query in the URL would be written into the run's record: leave it "
            "out, and give a key as OPENAI_API_KEY"
        )
    where = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{where}{f':{port}' if port else ''}{parts.path.rstrip('/') or '/v1'}", model.strip()


def _key(url: str) -> str:
    key = (os.environ.get("EARWITNESS_API_KEY") or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key and not _loopback(url):
        raise ValueError(f"{url} wants a key: set OPENAI_API_KEY (to `none`, where the server asks for none)")
    return key or "none"


@cache
def trusted() -> ssl.SSLContext:
    """The certificates this machine trusts, read once a process: each client would read them again, in 20 ms."""
    return ssl.create_default_context()


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
