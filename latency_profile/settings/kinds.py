"""The kinds of value that a setting takes: how text, or a value as YAML gives it, becomes a typed Python value."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from latency_profile.slo import grammar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """One kind of value. `read` raises ValueError where a value is not of this kind; its text may say why, and must not
    repeat the value, which may be a secret."""

    type: str  # as the settings table shows it
    takes: str  # ends an error line: "takes a whole number from 1 to 65535"
    read: Callable[[object], T_co]
    metavar: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False  # the flag may be given several times


def text(takes: str, metavar: str = "TEXT", pattern: str = r".*\S.*") -> Kind[str]:
    """A line of text of the given pattern, never empty. YAML must give it as text: to YAML, 0123 is the number 83."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("no text; quote it")
        if not re.fullmatch(pattern, value.strip()):
            raise ValueError
        return value.strip()

    return Kind("str", takes, read, metavar)


def path(takes: str) -> Kind[Path]:
    """A path, relative to the current folder; `~` is the home folder."""
    inner = text(takes)

    def read(value: object) -> Path:
        try:
            return Path(inner.read(value)).expanduser()
        except RuntimeError:
            raise ValueError("nobody of this name has a home folder") from None

    return Kind("str", takes, read, "PATH")


def hex_digits(takes: str) -> Kind[str]:
    """1 to 64 hexadecimal digits, in lower case."""
    inner = text(takes, "HEX", r"[0-9a-fA-F]{1,64}")
    return Kind("str", takes, lambda value: inner.read(value).lower(), "HEX")


def choice(names: tuple[T, ...]) -> Kind[T]:
    """One of the names."""
    takes = "one of " + ", ".join(map(str, names))

    def read(value: object) -> T:
        for name in names:
            if str(value).strip() == str(name):
                return name
        raise ValueError

    return Kind("str", takes, read, "NAME", tuple(map(str, names)))


def whole(minimum: int, maximum: int | None = None) -> Kind[int]:
    """A whole number between the bounds, both included."""
    takes = f"a whole number, {minimum} or more" if maximum is None else f"a whole number from {minimum} to {maximum}"

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        if value < minimum or (maximum is not None and value > maximum):
            raise ValueError
        return value

    return Kind("int", takes, read, "N")


def number(
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    unlimited: bool = False,
) -> Kind[float]:
    """A number above, or not below, a bound, and not beyond the maximum, which stands with a minimum. `unlimited` lets
    "inf" in, which is refused otherwise; NaN always is."""
    takes = f"a number above {above:g}" if above is not None else f"a number, {minimum or 0:g} or more"
    if maximum is not None:
        takes = f"a number from {minimum:g} to {maximum:g}"

    def read(value: object) -> float:
        if isinstance(value, str) and "_" not in value:
            try:
                value = float(value)
            except ValueError:
                raise ValueError from None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError
        if math.isnan(value) or (math.isinf(value) and not unlimited):
            raise ValueError
        if (above is not None and value <= above) or (minimum is not None and value < minimum):
            raise ValueError
        if maximum is not None and value > maximum:
            raise ValueError
        try:
            return float(value)
        except OverflowError:
            raise ValueError from None

    return Kind("float", takes + ', or "inf"' if unlimited else takes, read, "X")


def share(takes: str, *, whole: bool = False) -> Kind[float]:
    """A part of a whole, above 0 and below 1: "5%" or 0.05. `whole` lets 1 in."""
    inner = number(above=0)

    def read(value: object) -> float:
        spelled = value.strip() if isinstance(value, str) else ""
        part = inner.read(spelled[:-1]) / 100 if spelled.endswith("%") else inner.read(value)
        if not (0 < part < 1 or (whole and part == 1)):
            raise ValueError
        return part

    return Kind("float", takes, read, "SHARE")


def listed(
    item: Kind[T], takes: str, *, metavar: str = "LIST", repeatable: bool = False, once: bool = False
) -> Kind[tuple[T, ...]]:
    """Values of one kind separated by commas, or a YAML list of them; at least one. `once`: no value twice."""

    def read(value: object) -> tuple[T, ...]:
        if isinstance(value, list) and repeatable:
            value = ",".join(value) if all(isinstance(part, str) for part in value) else value
        if isinstance(value, str):
            value = value.split(",")
        parts = value if isinstance(value, list) else [value]
        if not parts:
            raise ValueError
        values = tuple(item.read(part) for part in parts)
        if once and len(set(values)) < len(values):
            raise ValueError("the same twice")
        return values

    return Kind(f"comma-separated {item.type}", takes, read, metavar, repeatable=repeatable)


def _boolean(value: object) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str) and str(value).strip().lower() in known:
        return known[str(value).strip().lower()]
    raise ValueError


BOOLEAN: Kind[bool] = Kind("bool", "true or false", _boolean, "")


def is_json(value: object) -> bool:
    """Whether a value can be written as JSON and read back the same (no NaN, no tuples, text for keys)."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def dictionary(takes: str, *, python: bool = False) -> Kind[dict[str, Any]]:
    """A JSON object; with `python`, also a Python dictionary spelled as a literal, which is never evaluated."""

    def parse(spelled: str) -> object:
        try:
            return json.loads(spelled)
        except (ValueError, RecursionError) as error:
            if not python:
                position = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
                raise ValueError(f"no JSON{position}") from None
        import ast

        try:
            return ast.literal_eval(spelled.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError("neither JSON nor a Python literal") from None

    def read(value: object) -> dict[str, Any]:
        if isinstance(value, str):
            value = parse(value)
        if not isinstance(value, dict):
            raise ValueError("no dictionary")
        if not is_json(value):
            raise ValueError("keys must be text, and values JSON values without NaN or Infinity")
        return value

    return Kind("dict", takes, read, "DICT")


OBJECTIVES = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2e", "e2el": "e2e"}  # as others spell them: as we do


def objectives(takes: str) -> Kind[dict[str, float]]:
    """NAME:MS or NAME<LIMIT (ms or s), separated by spaces or commas, or a YAML mapping of names to ms. In the order of
    OBJECTIVES."""
    limit = number(above=0)

    def pair(part: str) -> tuple[str, object]:
        name, less, spelled = part.partition("<")
        return (name, grammar.milliseconds(spelled)) if less else part.partition(":")[::2]

    def read(value: object) -> dict[str, float]:
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = " ".join(value)
        if isinstance(value, str):
            value = [pair(part) for part in value.replace(",", " ").split()]
        pairs = list(value.items()) if isinstance(value, dict) else value
        if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
            raise ValueError
        found: dict[str, float] = {}
        for given, ms in pairs:
            name = OBJECTIVES.get(str(given).lower())
            if name is None:
                raise ValueError
            if name in found:
                raise ValueError("the same twice")
            found[name] = limit.read(ms)
        if not found:
            raise ValueError
        return {name: found[name] for name in ("ttft", "tpot", "e2e") if name in found}

    return Kind("objectives", takes, read, '"NAME:MS ..."', repeatable=True)


def load_objectives() -> Kind[tuple[str, ...]]:
    """Objectives of a load, as `slo.grammar` spells them; YAML gives one text or a list of them."""
    return Kind("comma-separated objectives", grammar.TAKES, grammar.read, '"METRIC:STAT<LIMIT, ..."', repeatable=True)


# The sender frames requests itself; a second length or another transfer coding would break them.
_OWN_HEADERS = ("content-length", "transfer-encoding", "connection")


def _header(line: object) -> tuple[str, str]:
    if not isinstance(line, str):
        raise ValueError
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon:
        raise ValueError("no colon")
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("no header name before the colon")
    if not re.fullmatch(r"[\t\x20-\x7e]*", value):
        raise ValueError("control or non-ASCII characters in the value")
    if name.lower() in _OWN_HEADERS:
        raise ValueError("a header that the sender sets itself")
    return name, value


def headers(takes: str) -> Kind[Headers]:
    """Lines of "Name: value" in one text or a list, or a YAML mapping of names to values."""

    def read(value: object) -> Headers:
        if isinstance(value, dict):
            value = [f"{name}: {inner}" if isinstance(inner, str | int) else None for name, inner in value.items()]
        lines = (value.splitlines() or [value]) if isinstance(value, str) else value
        if not isinstance(lines, list):
            raise ValueError
        return tuple(_header(line) for line in lines)

    return Kind("str", takes, read, '"NAME: VALUE"', repeatable=True)


def location(takes: str) -> Kind[str]:
    """A URL of any scheme. A user, password or query might be a secret, and is refused."""
    inner = text(takes, "URL", r"[a-z][a-z0-9+.-]*://[^\s@?#]+")
    return Kind("str", takes, lambda value: inner.read(value).rstrip("/"), "URL")


def url(takes: str, *schemes: str) -> Kind[str]:
    """An address of one of the schemes (http and https where none is named) with at most a path prefix; a user,
    password, query or fragment might be a secret."""
    known = schemes or ("http", "https")

    def read(value: object) -> str:
        from urllib.parse import urlsplit

        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value.strip()):
            raise ValueError
        try:
            parts = urlsplit(value.strip())
            port = parts.port
        except ValueError:  # brackets that do not match, or a port that is none
            raise ValueError from None
        if parts.username is not None or "?" in value or "#" in value:
            raise ValueError("user, password, query and fragment are not allowed in it")
        if parts.scheme not in known or not parts.hostname or port == 0:
            raise ValueError
        return parts.scheme + value.strip()[len(parts.scheme) :].rstrip("/")

    return Kind("str", takes, read, "URL")


COUNT = whole(1)
SECONDS = number(minimum=0)
RATE = number(above=0, unlimited=True)
PRICE = number(minimum=1e-6, maximum=1e9)  # what is computed from it stays a number, and above 0
UTILIZATION = share("a share above 0 and at most 1, such as 40% or 0.4", whole=True)
