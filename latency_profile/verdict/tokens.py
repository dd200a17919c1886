"""Remarks on tokens: counts that contradict each other, and events that are no tokens."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from latency_profile import measures, token_counts
from latency_profile.records import NONE, EventSource, TokenSource
from latency_profile.token_counts import SAME_SHARE_LIMIT, Differences
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

# What touches fewer than one answer in a hundred moves no percentile up to the p99 further than to its neighbour.
DIFFERING_SHARE_LIMIT = 0.01
# In ten answers chance does not make most texts differ by the same number; in one it may.
FEWEST_TEXTS = 10
# Below, fewer than one gap in twenty spans more than a token: the middle of the ITL is that of single tokens.
TOKENS_PER_EVENT_LIMIT = 1.05
# Of prompts: how far the differences lie apart (5th to 95th percentile). What a template or a tokenizer's own special
# tokens add is the same for all prompts, up to a token at each seam; another tokenizer's differences grow with length.
SEAM_TOKENS = 2
PROMPT_SPREAD_LIMIT = 0.01  # of a prompt


@dataclass(frozen=True, slots=True)
class _Finding:
    """One count beside another."""

    other: str  # what the other count is of, as the sentence goes on after "than"
    by: int  # the commonest difference among those that differ
    uniform: bool  # whether all that differ do so by just that
    share: float  # of the answers
    answers: int
    mean: float  # size of the difference, tokens an answer


def several_tokens_an_event(known: Evidence) -> Iterator[Remark]:
    found = token_counts.per_event(known.records, known.rows) if known.records.context.streaming else None
    if found is not None and found.mean > TOKENS_PER_EVENT_LIMIT:
        yield Remark(
            name=Name.SEVERAL_TOKENS_AN_EVENT,
            text=f"An event carries {found.mean:.2f} tokens on average: ITL is a gap between events, not tokens.",
        )


def tokens_disagree(known: Evidence) -> Iterator[Remark]:
    """One remark for each size of the difference, whatever shows it; and one on prompts."""
    records, rows = known.records, known.rows
    outputs = records["output_tokens"][measures.succeeded(records, rows) & (records["output_tokens"] != NONE)]
    if outputs.sum() > 0:
        text, confirmed = _in_text(known), _text_confirms(known)
        found = [finding for finding in (_in_events(known, confirmed), _in_wanted(known), text) if finding is not None]
        if confirmed and found and found[-1].other == _WANTED:
            yield Remark(name=Name.TOKENS_DISAGREE, text=_other_load(found.pop()))
        while found:
            same = [finding for finding in found if finding.by == found[0].by]
            yield Remark(name=Name.TOKENS_DISAGREE, text=_sentence(known, same, float(outputs.mean())))
            found = [finding for finding in found if finding.by != found[0].by]
    yield from _in_prompts(known)


_EVENTS, _WANTED, _TEXT = "the events carried", "was asked for", "the text has"


def _in_events(known: Evidence, confirmed: bool) -> _Finding | None:
    """Ids and usage with every event count its tokens. Else an event with text was taken for one token: that usage says
    more shows no error where the text bears it out, or nothing but that an event carries several."""
    records, rows = known.records, known.rows
    told = rows & (records["event_source"] != EventSource.TEXT)
    taken = rows & (records["event_source"] == EventSource.TEXT) & (records["token_source"] == TokenSource.USAGE)
    found = [token_counts.usage_and_ids(records, told)]
    found.append(token_counts.reported_and_events(records, told & (records["event_output_tokens"] == NONE)))
    if not confirmed and not any(several_tokens_an_event(known)):
        found.append(token_counts.reported_and_events(records, taken))
    return _finding(_EVENTS, np.concatenate(found))


def _in_wanted(known: Evidence) -> _Finding | None:
    if not token_counts.exact_length(known.records):
        return None
    return _finding(_WANTED, token_counts.reported_and_wanted(known.records, known.rows))


def _in_text(known: Evidence) -> _Finding | None:
    differences = token_counts.reported_and_text(known.records, known.rows)
    found = _finding(_TEXT, differences)
    if found is None or len(differences) < FEWEST_TEXTS:
        return None
    return found if int((differences == found.by).sum()) > SAME_SHARE_LIMIT * len(differences) else None


def _text_confirms(known: Evidence) -> bool:
    """Whether most of the texts have just as many tokens as reported. Scattered differences say neither yes nor no."""
    differences = token_counts.reported_and_text(known.records, known.rows)
    return len(differences) >= FEWEST_TEXTS and float((differences == 0).mean()) > SAME_SHARE_LIMIT


def _finding(other: str, differences: Differences) -> _Finding | None:
    """None where too few differ."""
    off = differences[differences != 0]
    if not len(off) or len(off) / len(differences) <= DIFFERING_SHARE_LIMIT:
        return None
    values, counts = np.unique(off, return_counts=True)
    by, share = int(values[counts.argmax()]), len(off) / len(differences)
    return _Finding(other, by, len(values) == 1, share, len(differences), float(np.abs(differences).mean()))


def _sentence(known: Evidence, same: list[_Finding], tokens: float) -> str:
    first, others = same[0], [f"than {finding.other}" for finding in same[1:]]
    too = f" ({' and '.join(others)}, too)" if others else ""
    by_usage = (known.records["token_source"][known.rows] == TokenSource.USAGE).any()
    per_token = "TPOT" if known.records.context.streaming else "NTPOT"
    return (
        f"{'Usage says' if by_usage else 'The token ids are'} {_amount(first)} than {first.other} in "
        f"{_percent(first.share)} of {first.answers} answers{too}: tokens per second and {per_token} are off by up to "
        f"{_percent(first.mean / tokens)}."
    )


def _other_load(finding: _Finding) -> str:
    return (
        f"The server gave {_amount(finding)} than was asked for in {_percent(finding.share)} of {finding.answers} "
        f"answers: the load is not the one that was planned."
    )


def _amount(finding: _Finding) -> str:
    number = "one token" if abs(finding.by) == 1 else f"{abs(finding.by)} tokens"
    return f"{'' if finding.uniform else 'mostly '}{number} {'more' if finding.by > 0 else 'fewer'}"


def _in_prompts(known: Evidence) -> Iterator[Remark]:
    differences = token_counts.prompt_and_tokenizer(known.records, known.rows)
    if not len(differences):
        return
    low, high = np.quantile(differences, (0.05, 0.95))
    length = float(known.records["input_tokens"][known.rows].mean())
    if high - low > max(SEAM_TOKENS, PROMPT_SPREAD_LIMIT * length):
        yield Remark(
            name=Name.TOKENS_DISAGREE,
            text=f"The server counts {low:+.0f} to {high:+.0f} tokens beside the tokenizer's count of a prompt (mean "
            f"{length:.0f}): --tokenizer is not the model's own.",
        )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"
