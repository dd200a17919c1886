"""Hit rates over intent, by hand: what answers and counters say, what was meant, what cannot be avoided."""

from typing import Any

import numpy as np
import pytest

from latency_profile.prefix_cache import prefix_cache
from latency_profile.records import NONE, Records, Status
from latency_profile.report.rows import table_row
from latency_profile.results import point_result
from latency_profile.verdict import Kind, Name, judge
from latency_profile.verdict.contamination import HIT_RATE_LIMIT
from latency_profile.workload.sharing import intended_hits
from tests.make_records import make_records

N = 400


def point(cached: Any = NONE, prompt: int = 100, theirs: Any = NONE, **context: Any) -> Records:
    """400 requests of `prompt` tokens that were answered well, at 10 a second."""
    rng = np.random.default_rng(7)
    due = np.arange(N) / 10
    columns = {
        "input_tokens": np.full(N, prompt),
        "server_input_tokens": np.broadcast_to(theirs, N),
        "cached_tokens": np.broadcast_to(cached, N),
        **context.pop("columns", {}),
    }
    end = due + rng.uniform(0.1, 0.2, N)
    return make_records(due, end_s=end, columns=columns, duration_s=N / 10, streaming=False, **context)


def counted(queries: float, hits: float) -> dict[str, Any]:
    return {"source": "counters", "queries_tokens": queries, "hits_tokens": hits}


def found(records: Records) -> tuple[str | None, int | None, int | None]:
    cache = prefix_cache(records, np.ones(len(records), dtype=bool))
    assert cache is not None
    return cache.source, cache.queries_tokens, cache.hits_tokens


def test_a_server_that_says_nothing_has_no_block_and_no_verdict() -> None:
    result = point_result(point())
    assert result.cache is None
    assert result.verdict.verdict is Kind.VALID
    assert result.verdict.remarks == []


def test_answers_that_all_tell_go_before_counters() -> None:
    assert found(point(16, prefix_cache=counted(1, 1))) == ("answers", N * 100, N * 16)


def test_counters_go_before_answers_of_which_some_do_not_tell() -> None:
    cached = np.where(np.arange(N) % 2, 16, NONE)
    assert found(point(cached, prefix_cache=counted(1000, 10))) == ("counters", 1000, 10)
    assert found(point(cached)) == ("answers", N * 100, N // 2 * 16)


def test_failed_requests_do_not_count() -> None:
    status = np.where(np.arange(N) < 4, Status.RESET, Status.OK)
    cached = np.where(np.arange(N) < 4, NONE, 8)
    assert found(point(cached, columns={"status": status})) == ("answers", (N - 4) * 100, (N - 4) * 8)


def test_hits_over_the_limit_contaminate_and_hits_at_it_do_not() -> None:
    most = round(N * 100 * HIT_RATE_LIMIT)
    clean = judge(point(prefix_cache=counted(N * 100, most)))
    bent = judge(point(prefix_cache=counted(N * 100, most + 1)))
    assert clean.verdict is Kind.VALID
    assert bent.verdict is Kind.CONTAMINATED
    assert bent.reasons == [
        "The server had 5.0% of the prompt tokens in its prefix cache already (2001 of 40000, by its counters); 0.0% "
        "cannot be avoided, and the limit is 5% over that."
    ]


def test_a_template_is_unavoidable_in_whole_blocks() -> None:
    """20 tokens more than ours: up to 32 of 120 are shared. 6 more would be 5 %."""
    kept = point(32 + 6, theirs=120)
    cache = point_result(kept).cache
    assert cache is not None
    assert cache.unavoidable_hit_rate == pytest.approx(32 / 120)
    assert judge(kept).verdict is Kind.VALID
    assert judge(point(32 + 7, theirs=120)).verdict is Kind.CONTAMINATED


def test_what_grows_with_a_prompt_is_no_template() -> None:
    """The server counts 4 to 83 tokens more than we do: only what is added to all of them may be a template."""
    records = point(40, theirs=104 + np.arange(N) % 80)
    cache = point_result(records).cache
    assert cache is not None
    assert cache.unavoidable_hit_rate == pytest.approx(16 / 143.5)
    assert judge(records).verdict is Kind.CONTAMINATED


def test_each_model_has_a_template_of_its_own() -> None:
    second = np.arange(N) % 2
    cache = point_result(
        point(0, theirs=np.where(second, 140, 108), models=["a", "b"], columns={"model": second})
    ).cache
    assert cache is not None
    assert cache.unavoidable_hit_rate == pytest.approx((16 + 48) / (108 + 140))


def test_without_a_succeeded_request_nothing_is_contaminated() -> None:
    failed = point(columns={"status": np.full(N, Status.RESET)}, prefix_cache=counted(1000, 400))
    verdict = judge(failed)
    assert verdict.verdict is not Kind.VALID
    assert not [reason for reason in verdict.reasons if "prefix cache" in reason]


def test_servers_that_keep_single_tokens_find_the_beginning_of_unique_words() -> None:
    workload = {"workload": {"prefix_tokens": 5}}
    assert judge(point(10, provenance=workload)).verdict is Kind.VALID
    assert judge(point(11, provenance=workload)).verdict is Kind.CONTAMINATED


def shared(tokens: int, groups: int = 1, **more: Any) -> dict[str, Any]:
    return {"file_prefix": "b", "shared_prefix": tokens, "shared_prefix_groups": groups, **more}


def test_what_was_meant_to_be_shared_is_no_contamination() -> None:
    """72 tokens are four whole blocks and a half: 64 are meant, 8 more unavoidable where single tokens are kept."""
    cached = np.where(np.arange(N) < 4, 0, 72)
    records = point(cached, settings=shared(72, 4))
    cache = point_result(records).cache
    assert cache is not None
    assert cache.intended_hit_rate == pytest.approx(64 * (N - 4) / (100 * N))
    assert cache.unavoidable_hit_rate == pytest.approx(0.08)
    assert judge(records).verdict is Kind.VALID
    assert judge(point(72 + 6, settings=shared(72, 4))).verdict is Kind.CONTAMINATED
    assert judge(point(72, settings=shared(16))).verdict is Kind.CONTAMINATED


def test_first_touches_are_cold_in_the_first_point_and_after_a_reset() -> None:
    def meant(**more: Any) -> float:
        cache = point_result(point(0, **more)).cache
        assert cache is not None
        return cache.intended_hit_rate

    every = 0.64
    assert meant(settings=shared(64, 100)) == pytest.approx(every * 0.75)
    assert meant(settings=shared(64, 100), first_prompt=N) == pytest.approx(every)
    assert meant(settings=shared(64, 100, reset_cache=True), first_prompt=N) == pytest.approx(every * 0.75)


def test_intended_hits_by_hand() -> None:
    prompts, lengths = np.arange(6), np.asarray([100, 100, 100, 40, 64, 65])
    one = intended_hits(prompts, lengths, shared=64, groups=1)
    assert one.tolist() == [0, 64, 64, 32, 48, 64], "the last token of a prompt is always computed"
    two = intended_hits(prompts, np.full(6, 100), shared=70, groups=2)
    assert two.tolist() == [0, 0, 64, 64, 64, 64]
    late = intended_hits(prompts + 3, np.full(6, 100), shared=70, groups=5, touched=3)
    assert late.tolist() == [0, 0, 64, 64, 64, 64], "groups 3 and 4 are new, 0 to 2 were there"
    urls = intended_hits(prompts, np.full(6, 100), shared=70, groups=1, urls=prompts % 3)
    assert urls.tolist() == [0, 0, 0, 64, 64, 64], "each server has a cache of its own"
    turns = intended_hits(np.arange(3, 9), np.full(6, 100), shared=64, groups=3, urls=np.arange(6) % 2, touched=3)
    assert turns.tolist() == [64, 64, 64, 0, 0, 0], "prompts 0 to 2 touched each group at one server only"
    assert intended_hits(prompts, lengths, shared=15, groups=1).tolist() == [0] * 6, "no whole block"


def test_several_answers_for_a_prompt_share_it_inside_the_server() -> None:
    assert judge(point(96, settings={"best_of": 4})).verdict is Kind.VALID
    assert judge(point(96, settings={"best_of": 1})).verdict is Kind.CONTAMINATED


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (shared(64), "shared the prompts' prefix"),
        ({"reset_cache": True}, "reset took effect"),
        ({"unique_prompts": False}, "--no-unique-prompts"),
        ({"nonce": "ab"}, "--nonce"),
    ],
)
def test_a_silent_server_is_remarked_where_it_matters(settings: dict[str, Any], word: str) -> None:
    [remark] = judge(point(settings=settings)).remarks
    assert remark.name is Name.CACHE_UNKNOWN
    assert word in remark.text
    assert judge(point(0, settings=settings)).remarks == []


def test_the_table_notes_hits_and_intents_and_nothing_else() -> None:
    def notes(records: Records) -> tuple[str, ...]:
        return table_row("10", point_result(records)).notes

    assert notes(point(0)) == notes(point()) == ()
    assert notes(point(3)) == ("3.0% of the prompt tokens came out of the server's prefix cache",)
    meant = notes(point(settings=shared(64)))
    assert "an unknown share of the prompt tokens came out of the server's prefix cache, 63.8% intended" in meant
