"""A model behind an OpenAI-compatible API, asked for one text at a time. Nothing here is timed.

The key goes into the requests' header and nowhere else; what a server says of an error is shown without it.
"""

import contextlib
import email.utils
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from latency_profile.errors import ProfileError, ServerUnavailable, UsageError
from latency_profile.request_errors import reason

OPENROUTER = "https://openrouter.ai/api/v1"
TIMEOUT_S = (10.0, 300.0)  # to connect, and between two bytes of the answer
ATTEMPTS = 5  # of one request that a server cannot answer now
FIRST_PAUSE_S = 1.0  # twice as long each time, where the answer does not say how long
LONGEST_PAUSE_S = 120.0  # who asks for more is left for a later run

_TELLING = 6  # characters of a key in a row that are not shown
_AGAIN = frozenset({408, 409, 425, 429})  # and 5xx
_REASONS = {
    400: "refuses the request",
    401: "does not accept the key",
    402: "wants payment: the account has too few credits",
    403: "denies access",
    404: "has no such model or path",
    429: "has had too many requests",
}


_FAULTS = {  # by OpenRouter's names of ends, which are those of OpenAI and one more
    "length": "cut off",
    "content_filter": "refused",
    "error": "broken off",
    "tool_calls": "no text",
}
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]*)?")
_EPOCH_MS = re.compile(r"[0-9]{13}")


class Price(NamedTuple):
    """USD for a token, and for a request beside its tokens."""

    input_usd: float
    output_usd: float
    request_usd: float = 0.0

    def of(self, requests: int, input_tokens: int, output_tokens: int) -> float:
        """USD for all of it."""
        return requests * self.request_usd + input_tokens * self.input_usd + output_tokens * self.output_usd


class Text(NamedTuple):
    """What the model wrote. Tokens are None where the server does not tell them."""

    text: str
    fault: str  # why it is no whole answer; nothing where it is
    input_tokens: int | None
    output_tokens: int | None


class _Later(Exception):
    """The server cannot answer now. pause_s: as long as it asks for."""

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


def key_variable(url: str) -> str:
    """The environment variable that has the key for a URL."""
    return "OPENROUTER_API_KEY" if urlsplit(url).hostname == urlsplit(OPENROUTER).hostname else "OPENAI_API_KEY"


class Endpoint:
    """`url` is what goes before /chat/completions. Without a key none is sent: servers of one's own often take none."""

    def __init__(self, url: str, key: str | None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url, self._key, self._sleep = url.rstrip("/"), key, sleep
        self._session = requests.Session()

    def models(self) -> dict[str, Price | None]:
        """The models by name with their prices, where the server tells them. Raises ServerUnavailable."""
        try:
            answer = self._session.get(
                f"{self._url}/models", timeout=TIMEOUT_S, auth=self._signed, allow_redirects=False
            )
        except requests.RequestException as error:
            raise ServerUnavailable(f"{self._url}/models: {reason(error)}") from error
        if answer.status_code != HTTPStatus.OK:
            raise ServerUnavailable(f"{self._url}/models: HTTP status {answer.status_code}")
        try:
            return {str(model["id"]): _price(model.get("pricing")) for model in answer.json()["data"]}
        except (requests.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ServerUnavailable(f"{self._url}/models: no list of models") from error

    def write(self, model: str, question: str, max_tokens: int) -> Text:
        """The model's answer to a question. Asks again after what may pass; raises ServerUnavailable where it does not,
        and UsageError for what the server will never answer."""
        # OpenAI's own newer models refuse the name that all other servers know.
        own = urlsplit(self._url).hostname == "api.openai.com"
        limit = "max_completion_tokens" if own else "max_tokens"
        body = {"model": model, "messages": [{"role": "user", "content": question}], limit: max_tokens}
        for attempt in range(ATTEMPTS):
            try:
                return self._ask(body)
            except _Later as later:
                pause_s = FIRST_PAUSE_S * 2.0**attempt if later.pause_s is None else later.pause_s
                if pause_s > LONGEST_PAUSE_S:
                    raise ServerUnavailable(f"{later}; it asks to wait for {pause_s:.0f} s") from None
                if attempt + 1 == ATTEMPTS:
                    raise ServerUnavailable(f"{later}; given up after {ATTEMPTS} attempts") from None
                self._sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, body: Mapping[str, Any]) -> Text:
        try:
            answer = self._session.post(
                f"{self._url}/chat/completions", json=body, timeout=TIMEOUT_S, auth=self._signed, allow_redirects=False
            )
        except requests.RequestException as error:
            raise _Later(f"{self._url}: {reason(error)}") from error
        try:
            told = answer.json()
        except requests.JSONDecodeError:
            told = None
        status = answer.status_code
        if status != HTTPStatus.OK:
            raise self._refusal(status, told, answer.headers)
        if isinstance(told, dict) and told.get("error"):  # a router's own way: 200, and the model's server failed
            code = told["error"].get("code") if isinstance(told["error"], dict) else None
            raise self._refusal(code if isinstance(code, int) else 502, told, answer.headers)
        try:
            return _text(told)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise _Later(f"{self._url}: its answer is no chat completion") from error

    def _refusal(self, status: int, told: object, headers: Mapping[str, str]) -> ProfileError | _Later:
        said = f"{self._url} {_REASONS.get(status, 'fails')} (HTTP status {status})"
        if status in _AGAIN or status >= 500:
            return _Later(said, _pause_s(headers, told))
        # Of a wrong key some servers repeat a part.
        detail = "" if status == HTTPStatus.UNAUTHORIZED else self._detail(told)
        return UsageError(f"{said}{f': {detail}' if detail else ''}")

    def _detail(self, told: object) -> str:
        """The server's own words, without the key and without line breaks."""
        error = told.get("error") if isinstance(told, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        words = message.split() if isinstance(message, str) else []
        return " ".join("***" if self._tells_key(word) else word for word in words)[:200]

    def _tells_key(self, word: str) -> bool:
        """Whether a word has a part of the key: some servers repeat its beginning."""
        key = self._key or ""
        size = min(len(key), _TELLING)
        return bool(key) and any(key[start : start + size] in word for start in range(len(key) - size + 1))

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Puts the key in. As `auth`, because otherwise requests would put in what ~/.netrc has for the host."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _price(pricing: object) -> Price | None:
    """OpenRouter's: USD for a token, as text; -1 for a router whose price depends on the model that it takes."""
    if not isinstance(pricing, dict):
        return None
    try:
        price = Price(float(pricing["prompt"]), float(pricing["completion"]), float(pricing.get("request") or 0))
    except (KeyError, TypeError, ValueError):
        return None
    return price if all(0 <= usd < math.inf for usd in price) else None


def _text(told: Any) -> Text:
    choice = told["choices"][0]
    usage = told.get("usage") or {}
    content = choice["message"].get("content")
    return Text(
        text=content if isinstance(content, str) else "",
        fault=_fault(choice),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def _fault(choice: Any) -> str:
    """Ends that nobody knows count as whole: servers have names of their own for them."""
    if choice["message"].get("refusal"):
        return "refused"
    if choice.get("error"):
        return "broken off"
    return _FAULTS.get(str(choice.get("finish_reason")), "")


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _pause_s(headers: Mapping[str, str], told: Any) -> float | None:
    """How long the server asks to wait, in seconds: by Retry-After, which may be a date (RFC 9110, 10.2.3), or else by
    OpenRouter's X-RateLimit-Reset, ms since 1970, which it puts into the error's body too. None: it does not say."""
    retry_after = headers.get("Retry-After", "").strip()
    if _NUMBER.fullmatch(retry_after):
        return float(retry_after)
    with contextlib.suppress(ValueError):
        at = email.utils.parsedate_to_datetime(retry_after)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    reset = headers.get("X-RateLimit-Reset")
    if reset is None:
        with contextlib.suppress(KeyError, TypeError):
            reset = told["error"]["metadata"]["headers"]["X-RateLimit-Reset"]
    if reset is None or not _EPOCH_MS.fullmatch(str(reset)):
        return None
    return max(0.0, int(reset) / 1000 - time.time())
