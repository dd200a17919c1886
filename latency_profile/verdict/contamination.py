"""CONTAMINATED: the server had less to do than it was meant to have."""

from latency_profile import measures
from latency_profile.prefix_cache import PrefixCache, prefix_cache, shared_prefix
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

# A prompt token out of the cache costs no prefill: a hit rate of h over what is meant makes prefill, and TTFT with it,
# up to h shorter. Repeated runs of one server differ by 5 % anyway.
HIT_RATE_LIMIT = 0.05


def contaminated(known: Evidence) -> list[str]:
    """Whether more prompt tokens came out of the prefix cache than is meant and unavoidable.

    Several answers for a prompt (beams, best of n) share it inside the server: that is its own affair, and not judged.
    Nor are counters where no request succeeded: nothing then says what cannot be avoided.
    """
    settings = known.records.context.settings
    if settings.get("use_beam_search") or settings.get("best_of", 1) > 1:
        return []
    cache = prefix_cache(known.records, known.rows)
    if cache is None or cache.hit_rate is None or not measures.succeeded(known.records, known.rows).any():
        return []
    over = cache.hit_rate - cache.intended_hit_rate - cache.unavoidable_hit_rate
    if over <= HIT_RATE_LIMIT:
        return []
    return [
        f"The server had {cache.hit_rate:.1%} of the prompt tokens in its prefix cache already ({cache.hits_tokens} of "
        f"{cache.queries_tokens}, by its {cache.source}); {_expected(cache)}, and the limit is {HIT_RATE_LIMIT:.0%} "
        f"over that."
    ]


def cache_unknown(known: Evidence) -> list[Remark]:
    """A server that says nothing of its cache, where that matters: prompts were shared or repeated, or it was reset."""
    settings = known.records.context.settings
    cache = prefix_cache(known.records, known.rows)
    if cache is not None and cache.source is not None:
        return []
    if shared_prefix(known.records.context)[0]:
        why = "whether it shared the prompts' prefix"
    elif settings.get("reset_cache"):
        why = "whether its reset took effect"
    elif not settings.get("unique_prompts", True):
        why = "whether it had seen these prompts before, which --no-unique-prompts sends as they are"
    elif settings.get("nonce") is not None:
        why = "whether it had seen these prompts before, which --nonce repeats from run to run"
    else:
        return []
    return [Remark(name=Name.CACHE_UNKNOWN, text=f"The server says nothing of its prefix cache: it is unknown {why}.")]


def _expected(cache: PrefixCache) -> str:
    if cache.intended_hit_rate:
        return f"{cache.intended_hit_rate:.1%} are meant to be and {cache.unavoidable_hit_rate:.1%} cannot be avoided"
    return f"{cache.unavoidable_hit_rate:.1%} cannot be avoided"
