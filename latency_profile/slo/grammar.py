"""How objectives are spelled: METRIC:STAT<LIMIT, and errors<SHARE. Light: settings import this."""

import re
from dataclasses import dataclass
from decimal import Decimal

METRICS = ("ttft", "tpot", "itl", "ntpot", "e2e")
STREAMED = frozenset({"ttft", "tpot", "itl"})  # those that only a streamed answer has
PER_TOKEN = frozenset({"tpot", "ntpot"})  # of one answer, by how many tokens it has
ERRORS = "errors"
MEAN = "mean"
TAKES = (
    'objectives such as "ttft:p99<500ms, e2e:mean<10s, errors<1%": METRIC:STAT<LIMIT, METRIC of '
    f"{', '.join(METRICS)}, STAT a percentile (p50, p99.9) or mean, LIMIT above 0 in ms or s"
)
_ALIASES = {"e2el": "e2e"}  # as --goodput takes it
_SPELLED = re.compile(r"([a-z0-9]+)(?:\s*:\s*([a-z0-9.]+))?\s*<\s*(.+)", re.IGNORECASE)
_LIMIT = re.compile(r"([0-9.e+-]*[0-9.])\s*([a-z%]*)", re.IGNORECASE)
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,4})?)")
_MILLISECONDS = {"ms": Decimal(1), "s": Decimal(1000)}
_LEAST, _MOST = Decimal("1e-6"), Decimal("1e9")


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of a load."""

    name: str  # METRIC:STAT<LIMIT, spelled the one way
    metric: str  # one of METRICS, or ERRORS
    statistic: str  # "p99", "mean", or "share" of errors
    level: float | None  # share of requests (itl: of gaps) that must keep the limit; None for a mean
    limit_ms: float | None  # at most so long; None for errors

    @property
    def figure(self) -> str:
        """What of the objective there can be only one limit of."""
        return self.name.partition("<")[0]


def parse(spelled: str) -> Objective:
    """Raises ValueError, whose text says why where that helps."""
    found = _SPELLED.fullmatch(spelled.strip())
    if found is None:
        raise ValueError
    metric, statistic, limit = ((part or "").lower() for part in found.groups())
    metric = _ALIASES.get(metric, metric)
    number, unit = _limit(limit)
    if metric == ERRORS:
        return _of_errors(statistic, number, unit)
    if metric not in METRICS:
        raise ValueError("no such metric")
    limit_ms = _milliseconds(number, unit)
    statistic, level = _statistic(statistic)
    return Objective(f"{metric}:{statistic}<{_plain(number)}{unit}", metric, statistic, level, limit_ms)


def milliseconds(spelled: str) -> float:
    """Of a limit such as 500ms or 0.5s. Raises ValueError."""
    return _milliseconds(*_limit(spelled.lower()))


def _limit(spelled: str) -> tuple[Decimal, str]:
    found = _LIMIT.fullmatch(spelled.strip())
    if found is None:
        raise ValueError
    try:
        number = Decimal(found[1])
    except ArithmeticError:
        raise ValueError from None
    if not _LEAST <= number < _MOST:
        raise ValueError
    return number, found[2]


def _milliseconds(number: Decimal, unit: str) -> float:
    if unit not in _MILLISECONDS:
        raise ValueError("a limit without ms or s")
    return float(number * _MILLISECONDS[unit])


def _of_errors(statistic: str, limit: Decimal, unit: str) -> Objective:
    if statistic:
        raise ValueError("errors have no statistic")
    if unit != "%" or limit >= 100:
        raise ValueError("errors take a share in %, below 100%")
    return Objective(f"{ERRORS}<{_plain(limit)}%", ERRORS, "share", float(1 - limit / 100), None)


def _statistic(spelled: str) -> tuple[str, float | None]:
    if spelled == MEAN:
        return MEAN, None
    found = _PERCENTILE.fullmatch(spelled)
    if found is None:
        raise ValueError("no such statistic" if spelled else "no statistic")
    percent = Decimal(found[1])
    if not percent:
        raise ValueError("no such statistic")
    return f"p{_plain(percent)}", float(percent / 100)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def read(value: object) -> tuple[str, ...]:
    """Objectives separated by commas in one text or in a list of texts, as their names; no figure twice. Raises
    ValueError."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError
    objectives = [parse(part) for text in texts for part in text.split(",")]
    if not objectives:
        raise ValueError
    if len({objective.figure for objective in objectives}) < len(objectives):
        raise ValueError("the same figure twice")
    return tuple(objective.name for objective in objectives)
