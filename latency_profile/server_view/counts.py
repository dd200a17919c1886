"""Requests and tokens by the client's records and by the server's counters. Pure."""

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.records import NONE, Flag, Records, Status, TokenSource
from latency_profile.server_view.structure import Counted
from latency_profile.telemetry.readings import Readings
from latency_profile.telemetry.vocabulary import Quantity


def requests(records: Records, found: Readings) -> Counted | None:
    """The server must have counted what succeeded, and may have counted every attempt."""
    told = found.counters.get(Quantity.REQUESTS.value)
    if told is None:
        histogram = found.histograms.get(Quantity.E2E.value)
        told = None if histogram is None else sum(histogram.counts)
    if told is None or not comparable(records):
        return None
    good = measures.succeeded(records, measures.all_rows(records))
    return counted(float(good.sum()), float(attempts(records).sum()), told)


def prompt_tokens(records: Records, found: Readings) -> Counted | None:
    """By the usage of the answers; the tokenizer's count is not the server's (a template, a token at the beginning)."""
    told = found.counters.get(Quantity.PROMPT_TOKENS.value)
    good = measures.succeeded(records, measures.all_rows(records))
    lengths = records["server_input_tokens"].astype(np.float64)
    if told is None or not comparable(records) or not good.any() or (lengths[good] == NONE).any():
        return None
    others = np.where(lengths == NONE, records["input_tokens"] * _template(records, good), lengths)
    most = float((others * attempts(records)).sum())
    return counted(float(lengths[good].sum()), most, told)


def generated_tokens(records: Records, found: Readings) -> Counted | None:
    """By usage or ids. One that did not succeed may have had all that it wanted."""
    told = found.counters.get(Quantity.GENERATED_TOKENS.value)
    good = measures.succeeded(records, measures.all_rows(records))
    sure = np.isin(records["token_source"], (TokenSource.USAGE, TokenSource.TOKEN_IDS))
    if told is None or not comparable(records) or not good.any() or not sure[good].all():
        return None
    lengths = np.where(good, np.maximum(records["output_tokens"], 0), 0).astype(np.float64)
    more = np.where(good, attempts(records) - 1, attempts(records)) * records["wanted_tokens"].astype(np.float64)
    return counted(float(lengths.sum()), float(lengths.sum() + more.sum()), told)


def counted(client: float, most: float, server: float) -> Counted:
    return Counted(
        client=client,
        client_most=most,
        server=server,
        excess=max(0.0, server - most),
        lack=max(0.0, client - server),
    )


def attempts(records: Records) -> NDArray[np.int64]:
    """How often each request went out, shape (requests,): retries, and the dead connections that were found."""
    sent = (records["sent_ns"] != NONE) & (records["status"] != Status.NOT_SENT)
    again = records["retries"].astype(np.int64) + ((records["flags"] & Flag.RESENT) != 0)
    return np.where(sent, 1 + again, 0)


def comparable(records: Records) -> bool:
    """Whether a request is one sequence to the server: of beams and of the best of several it counts each."""
    settings = records.context.settings
    return not settings.get("use_beam_search") and settings.get("best_of", 1) == 1


def _template(records: Records, good: measures.Rows) -> float:
    """Prompt tokens by the server for each by the tokenizer: what those that failed may have had."""
    ours = float(records["input_tokens"][good].sum())
    return max(1.0, float(records["server_input_tokens"][good].sum()) / ours) if ours else 1.0
