"""The engine model against schedules reckoned by hand. Virtual time: units are those of the profile, here 'ns'."""

import dataclasses

import pytest

from latency_profile.simulator.blocks import BlockPool, hash_blocks
from latency_profile.simulator.engine import Engine, EngineProfile
from latency_profile.simulator.job import Job

# A step takes 100 + 1 a decode + 0 a context token + 10 a prompt token.
PLAIN = EngineProfile(
    name="plain",
    step_ns=100,
    sequence_ns=1.0,
    context_ns=0.0,
    prefill_token_ns=10.0,
    prefill_floor_ns=0,
    frontend_ns=0,
    max_num_seqs=8,
    max_num_batched_tokens=1000,
    block_size=4,
    num_blocks=1000,
    max_model_len=1000,
    prefix_caching=False,
)


def play(engine: Engine, jobs: list[Job]) -> dict[Job, list[int]]:
    """Runs the jobs to their end, each admitted when it arrives; the due times of each one's tokens."""
    coming = sorted(jobs, key=lambda job: job.arrival_ns)
    times: dict[Job, list[int]] = {job: [] for job in jobs}
    while True:
        due = engine.next_due()
        if coming and (due is None or coming[0].arrival_ns <= due):
            engine.admit(coming.pop(0))
        elif due is None:
            return times
        else:
            for emission in engine.run(due):
                times[emission.job] += [emission.due_ns] * emission.tokens


def test_single_request() -> None:
    job = Job(arrival_ns=1000, prompt_tokens=20, output_tokens=4)
    times = play(Engine(PLAIN), [job])
    # prefill 100 + 10·20; then a step of 100 + 1 for each further token
    assert times[job] == [1300, 1401, 1502, 1603]
    assert job.started_ns == 1000


def test_context_floor_and_frontend() -> None:
    profile = dataclasses.replace(PLAIN, context_ns=2.0, prefill_floor_ns=500, frontend_ns=50)
    job = Job(arrival_ns=0, prompt_tokens=20, output_tokens=3)
    # ready at 50; prefill 100 + max(500, 200); then the new token attends to 21 and 22 tokens, itself included
    assert play(Engine(profile), [job])[job] == [650, 650 + 100 + 1 + 42, 793 + 100 + 1 + 44]


def test_batch_of_two_joins_at_the_next_step() -> None:
    first = Job(arrival_ns=0, prompt_tokens=10, output_tokens=3)
    second = Job(arrival_ns=50, prompt_tokens=5, output_tokens=2)
    times = play(Engine(PLAIN), [first, second])
    # [0, 200] prefill of the first; [200, 351] one decode and 5 prompt tokens; [351, 453] two decodes
    assert times[first] == [200, 351, 453]
    assert times[second] == [351, 453]
    assert second.started_ns == 200


def test_same_start_is_one_prefill() -> None:
    jobs = [Job(0, 10, 2), Job(0, 20, 2)]
    times = play(Engine(PLAIN), jobs)
    assert times[jobs[0]] == times[jobs[1]] == [400, 502]


def test_queue_beyond_max_num_seqs() -> None:
    engine = Engine(dataclasses.replace(PLAIN, max_num_seqs=1))
    first, second = Job(0, 10, 2), Job(0, 10, 1)
    engine.admit(first)
    engine.admit(second)
    assert engine.run(0) == []
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    jobs = [Job(0, 10, 2), Job(0, 10, 1)]
    times = play(Engine(dataclasses.replace(PLAIN, max_num_seqs=1)), jobs)
    assert times[jobs[0]] == [200, 301]
    assert times[jobs[1]] == [501]  # starts when the first has ended
    assert jobs[1].started_ns == 301


def test_chunked_prefill() -> None:
    job = Job(0, prompt_tokens=25, output_tokens=2)
    times = play(Engine(dataclasses.replace(PLAIN, max_num_batched_tokens=10)), [job])
    # chunks of 10, 10 and 5: 200 + 200 + 150, the token comes with the last; then a decode
    assert times[job] == [550, 651]


def test_token_budget_serves_decodes_first() -> None:
    first, second = Job(0, 5, 4), Job(10, 12, 1)
    times = play(Engine(dataclasses.replace(PLAIN, max_num_batched_tokens=6)), [first, second])
    # [0, 150] prefill of 5; then twice one decode and a chunk of 5 (100 + 1 + 50); then the fourth token of the first
    # beside the last two prompt tokens of the second (100 + 1 + 20).
    assert times[first] == [150, 301, 452, 573]
    assert times[second] == [573]


def test_async_scheduling_sees_arrivals_one_step_later() -> None:
    first, second = Job(0, 10, 4), Job(50, 5, 1)
    times = play(Engine(dataclasses.replace(PLAIN, async_scheduling=True)), [first, second])
    # The step from 200 was composed at 0, when the second was not there; the one from 301 at 200.
    assert times[first] == [200, 301, 452, 553]
    assert times[second] == [452]


def test_preemption_recomputes_the_latest() -> None:
    # 4 blocks of 4 tokens. Two prompts of 8 fill them; both want a fifth token's block after the first token: the
    # second is thrown out, waits until the first has ended, and computes its 8 + 1 tokens again.
    profile = dataclasses.replace(PLAIN, num_blocks=4, max_model_len=16)
    engine = Engine(profile)
    first, second = Job(0, 8, 3), Job(0, 8, 2)
    times = play(engine, [first, second])
    assert times[first] == [260, 361, 462]
    assert times[second] == [260, 462 + 100 + 90]
    assert (second.preemptions, first.preemptions, engine.stats().preemptions) == (1, 0, 1)
    assert engine.pool.used == 0


def test_no_overtaking_a_request_that_does_not_fit() -> None:
    profile = dataclasses.replace(PLAIN, num_blocks=4, max_model_len=16)
    running, large, small = Job(0, 8, 3), Job(10, 12, 1), Job(20, 4, 1)
    times = play(Engine(profile), [running, large, small])
    assert times[running] == [180, 281, 382]
    assert times[large][0] == times[small][0] == 382 + 100 + 160


def test_prefix_cache() -> None:
    profile = dataclasses.replace(PLAIN, prefix_caching=True)
    engine = Engine(profile)
    ids = list(range(10))
    first = Job(0, 10, 1, block_hashes=hash_blocks(ids, 4))
    again = Job(1000, 10, 1, block_hashes=hash_blocks(ids, 4))
    other_end = Job(2000, 8, 1, block_hashes=hash_blocks(ids[:4] + [99] * 4, 4))
    whole = Job(3000, 8, 1, block_hashes=hash_blocks(ids[:8], 4))
    times = play(engine, [first, again, other_end, whole])
    assert times[first] == [200]
    assert times[again] == [1000 + 100 + 20]  # two full blocks of ten tokens were there
    assert times[other_end] == [2000 + 100 + 40]
    assert times[whole] == [3000 + 100 + 40]  # the last token is always computed: its block is not used
    assert [job.cached_tokens for job in (first, again, other_end, whole)] == [0, 8, 4, 4]
    assert (engine.stats().prefix_queries, engine.stats().prefix_hits) == (36, 16)
    assert engine.pool.used == 0


def test_cancel_frees_the_batch() -> None:
    engine = Engine(dataclasses.replace(PLAIN, max_num_seqs=1))
    first, second = Job(0, 10, 100), Job(0, 10, 1)
    engine.admit(first)
    engine.admit(second)
    engine.run(250)
    engine.cancel(first)
    emissions = [emission for due in (301, 501) for emission in engine.run(due)]
    assert [(emission.job, emission.due_ns) for emission in emissions] == [(second, 501)]
    assert engine.pool.used == 0
    assert engine.next_due() is None


def test_late_driver_does_not_move_the_timeline() -> None:
    jobs = [Job(0, 20, 50), Job(0, 30, 50)]
    exact = play(Engine(PLAIN), jobs)
    engine = Engine(PLAIN)
    late_jobs = [Job(0, 20, 50), Job(0, 30, 50)]
    for job in late_jobs:
        engine.admit(job)
    late: dict[Job, list[int]] = {job: [] for job in late_jobs}
    for now in range(0, 20_000, 777):  # wakes up whenever, several steps late
        for emission in engine.run(now):
            late[emission.job].append(emission.due_ns)
    assert list(late.values()) == list(exact.values())


def test_jitter_is_seeded() -> None:
    profile = dataclasses.replace(PLAIN, jitter=0.1)

    def times(seed: int) -> list[int]:
        job = Job(0, 20, 200)
        return play(Engine(profile, seed), [job])[job]

    assert times(1) == times(1) != times(2)
    steps = [after - before for before, after in zip(times(1), times(1)[1:], strict=False)]
    assert min(steps) >= 101 * 0.9 - 1 and max(steps) <= 101 * 1.1 + 1
    assert abs(sum(steps) / len(steps) - 101) < 2


def test_iterations_carry_every_token_once() -> None:
    engine = Engine(dataclasses.replace(PLAIN, max_num_batched_tokens=16))
    play(engine, [Job(0, 25, 5), Job(3, 10, 7)])
    assert sum(tokens * steps for tokens, steps in engine.stats().iterations.items()) == 25 + 5 + 10 + 7


def test_cache_smaller_than_a_request_is_refused() -> None:
    with pytest.raises(ValueError, match="hold less than one request"):
        Engine(dataclasses.replace(PLAIN, num_blocks=10))


def test_pool_evicts_the_oldest_idle_block() -> None:
    pool = BlockPool(3)
    assert pool.allocate(3) and not pool.allocate(1)
    assert all(pool.publish(value) for value in (1, 2, 3))
    assert not pool.publish(2)
    pool.unshare([1, 2, 3])  # lets go 3, then 2, then 1
    assert pool.used == 0 and pool.find([1, 2, 3]) == 3
    assert pool.allocate(1)
    assert pool.find([1, 2, 3]) == 2
    pool.share([1, 2])
    assert pool.used == 3 and not pool.allocate(1)
