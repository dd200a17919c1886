"""Token lengths of a data set: counted, described, and set against what synthetic lengths would be. Pure but for the
file and the tokenizer that it is given."""

from itertools import islice
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.datasets.law import Moments, nearest
from latency_profile.datasets.pairs import Source, sample
from latency_profile.datasets.structure import Correlation, Estimate, Law, LengthsFound, Normal, Rows
from latency_profile.statistics import mean_and_sd, mean_interval, quantile
from latency_profile.workload.selection import FEWEST_TOKENS
from latency_profile.workload.tokenizer import Tokenizer

SCHEMA_VERSION = "1.1"

Counts = NDArray[np.int64]

_NONE = -1  # a row without an answer and without an output length
_BATCH = 512  # texts in memory at once


def estimate(
    source: Source,
    tokenizer: Tokenizer,
    *,
    sha256: str,
    count: int | None = None,
    seed: int = 0,
    head: int = 0,
) -> Estimate:
    """The lengths of `count` rows drawn by the seed, or of all. head: tokens that a profile puts before each prompt to
    make it unique. Raises UsageError where no row can be used."""
    inputs, outputs = lengths(source, tokenizer, count, seed)
    (special,) = tokenizer.counts([""], special=True)
    both = outputs != _NONE
    found = described(inputs)
    answers = described(outputs[both]) if both.any() else None
    tally = source.tally
    return Estimate(
        schema_version=SCHEMA_VERSION,
        dataset=source.path.name,
        dataset_sha256=sha256,
        form=source.form.name,
        prompt_columns=list(source.form.prompt),
        answer_column=source.form.answer or " or ".join(source.form.output_lengths) or None,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
        rows=Rows(
            rows=tally.rows,
            not_unicode=tally.not_unicode,
            no_prompt=tally.no_prompt,
            no_answer=tally.no_answer,
            duplicate_prompts=tally.duplicate_prompts,
            used=len(inputs),
            too_short=too_short(inputs - special, outputs) if source.form.answered else 0,
            sample=count,
            seed=None if count is None else seed,
        ),
        input=found,
        output=answers,
        correlation=correlation(inputs[both], outputs[both]) if both.any() else None,
        synthetic_input=law("--input-len", found, head + 1),
        synthetic_output=law("--output-len", answers, 1) if answers else None,
        dataset_flags=[
            f"--max-input-length={int(found.max) + head}",
            *([f"--max-output-length={int(answers.max)}"] if answers else []),
        ],
    )


def lengths(source: Source, tokenizer: Tokenizer, count: int | None, seed: int) -> tuple[Counts, Counts]:
    """Input and output tokens of each row used, shape (rows,); _NONE for no output. A prompt counts with the special
    tokens around it, an answer without, as in a profile."""
    pairs = sample(source.pairs(), count, seed)
    inputs: list[int] = []
    outputs: list[int] = []
    while batch := list(islice(pairs, _BATCH)):
        inputs += tokenizer.counts([pair.prompt or "" for pair in batch], special=True)
        told = [pair.output_length or _NONE for pair in batch]
        counted = iter(tokenizer.counts([pair.answer for pair in batch if pair.answer is not None], special=False))
        outputs += [next(counted) if pair.answer is not None else told[i] for i, pair in enumerate(batch)]
    return np.asarray(inputs, dtype=np.int64), np.asarray(outputs, dtype=np.int64)


def too_short(texts: Counts, answers: Counts) -> int:
    """How many conversations a profile leaves out, by the tokens of their prompts' texts and of their answers."""
    return int(np.count_nonzero((texts < FEWEST_TOKENS) | (answers < FEWEST_TOKENS)))


def described(values: Counts) -> LengthsFound:
    """The description of one length or more."""
    ordered = np.sort(values)
    n = len(ordered)
    mean, population_sd = mean_and_sd(ordered)
    sd = population_sd * (n / (n - 1)) ** 0.5 if n > 1 else None
    low = high = None
    if n >= 3:  # two leave Student's t one degree of freedom: it tells nothing
        low, high = (max(0.0, mean + end) for end in mean_interval(np.asarray(values - mean, dtype=np.float64), 1.0))
    levels, rows = np.unique(ordered, return_counts=True)

    def at(level: float) -> float:
        return quantile(ordered, level) or 0.0

    return LengthsFound(
        n=n,
        mean=mean,
        mean_low=low,
        mean_high=high,
        sd=sd,
        min=at(0),
        p50=at(0.5),
        p90=at(0.9),
        p99=at(0.99),
        max=at(1),
        normal=normal(levels, rows, mean, sd) if sd else None,
        histogram=list(zip(levels.tolist(), rows.tolist(), strict=True)),
    )


def normal(levels: Counts, rows: Counts, mean: float, sd: float) -> Normal:
    """How far a rounded normal distribution is from the data. levels: the lengths that there are, ascending.

    Between two lengths the data's distribution function is flat and the other grows: the largest difference is at a
    length, or one token below it.
    """
    fitted = NormalDist(mean, sd)
    upto = np.cumsum(rows) / rows.sum()
    before = np.concatenate(([0.0], upto[:-1]))
    at_level = np.asarray([fitted.cdf(level + 0.5) for level in levels.tolist()])
    one_below = np.asarray([fitted.cdf(level - 0.5) for level in levels.tolist()])
    distance = max(float(np.abs(upto - at_level).max()), float(np.abs(before - one_below).max()))
    return Normal(share_below_1=fitted.cdf(0.5), ks_distance=distance, p99=fitted.inv_cdf(0.99))


def correlation(inputs: Counts, outputs: Counts) -> Correlation:
    """Of two series of one length or more."""
    return Correlation(
        n=len(inputs), pearson=_pearson(inputs, outputs), spearman=_pearson(_ranks(inputs), _ranks(outputs))
    )


def _pearson(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    x, y = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    if scale <= 0:
        return None
    return float(np.clip((x * y).sum() / scale, -1, 1))


def _ranks(values: Counts) -> NDArray[np.float64]:
    """Equal values share the mean of their ranks."""
    _, place, rows = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(rows) - (rows - 1) / 2)[place]


def law(flag: str, found: LengthsFound, least: int) -> Law | None:
    """The profile's synthetic lengths that are nearest; None where none has the mean."""
    low, high = max(int(found.min), least), int(found.max)
    near = nearest(Moments(found.mean, found.sd or 0.0), low, high)
    if near is None:
        return None
    parameters, come_to = near
    flags = [f"{flag}={parameters.mean}"]
    if parameters.sd:
        flags += [f"{flag}-stddev={parameters.sd:g}", f"{flag}-min={low}", f"{flag}-max={high}"]
    return Law(flags=flags, mean=come_to.mean, sd=come_to.sd)
