"""A continuous-batching engine in virtual time: which sequences each step carries, and how long it takes.

The scheduler follows vLLM V1 (vllm/v1/core/sched/scheduler.py): one token budget a step for prefill and decode alike,
running sequences first, chunked prefill, first come first served, preemption of the latest sequence by recompute.

    step = (a + b·decodes + c·context + prefill(tokens)) · (1 + jitter·U(-1, 1))
    prefill(n) = max(floor, p·n) for n > 0

a: reading the weights and launching the kernels; b: a decoding sequence's share (sampling, attention's fixed part);
c: reading one token of KV cache, times the tokens that all decoding sequences attend to; p: computing one prompt token.
"""

import random
from collections import deque
from dataclasses import dataclass

from latency_profile.simulator.blocks import BlockPool
from latency_profile.simulator.job import NONE, Emission, Job, Stats


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine on one machine. Times in ns."""

    name: str
    step_ns: int  # a
    sequence_ns: float  # b, for each decoding sequence
    context_ns: float  # c, for each token of context that decoding sequences attend to
    prefill_token_ns: float  # p
    prefill_floor_ns: int  # what the smallest prefill adds to a step
    frontend_ns: int  # HTTP, tokenization and the way to the scheduler: a request is not seen before
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int  # tokens
    num_blocks: int
    max_model_len: int
    async_scheduling: bool = False  # a step is composed when the one before it starts
    prefix_caching: bool = True
    jitter: float = 0.0  # share


@dataclass(slots=True, eq=False)
class _Sequence:
    """A job in the engine, and what it holds there."""

    job: Job
    computed: int = 0  # tokens whose keys and values are in the cache
    room: int = 0  # tokens that fit in its blocks
    published: int = 0  # its leading blocks that are shared by hash


@dataclass(frozen=True, slots=True)
class Step:
    """One engine iteration. `work` pairs each sequence with the tokens that the step computes for it."""

    start_ns: int
    end_ns: int
    work: list[tuple[_Sequence, int]]


class Engine:
    """See the module. Implements `Timing`."""

    def __init__(self, profile: EngineProfile, seed: int = 0) -> None:
        """Raises ValueError where one request of the greatest length would not fit in the cache."""
        if profile.num_blocks * profile.block_size < profile.max_model_len:
            raise ValueError(
                f"{profile.num_blocks} blocks of {profile.block_size} tokens hold less than one request of "
                f"{profile.max_model_len} tokens"
            )
        self.profile = profile
        self.pool = BlockPool(profile.num_blocks)
        self.waiting: deque[_Sequence] = deque()
        self.running: list[_Sequence] = []
        self._sequences: dict[Job, _Sequence] = {}
        self._step: Step | None = None
        self._free_ns = 0  # end of the last step
        self._decided_ns = 0  # what arrived later than this is not seen by the step that starts at _free_ns
        self._random = random.Random(seed)
        self._stats = Stats()

    def admit(self, job: Job) -> None:
        job.ready_ns = job.arrival_ns + self.profile.frontend_ns
        sequence = _Sequence(job)
        self._sequences[job] = sequence
        self.waiting.append(sequence)

    def cancel(self, job: Job) -> None:
        sequence = self._sequences.pop(job, None)
        if sequence is None:
            return
        job.cancelled = True
        if sequence in self.running:
            self.running.remove(sequence)
            self._free(sequence)
        else:
            self.waiting.remove(sequence)

    def next_due(self) -> int | None:
        if self._step is not None:
            return self._step.end_ns
        if self.waiting:
            return max(self.waiting[0].job.ready_ns, self._free_ns)
        return None

    def run(self, now_ns: int) -> list[Emission]:
        emissions: list[Emission] = []
        while True:
            if self._step is None:
                if not self.running and not self.waiting:
                    break
                start_ns = self._free_ns
                if (
                    not self.running and self.waiting[0].job.ready_ns > self._decided_ns
                ):  # the engine is idle until then
                    start_ns = max(self.waiting[0].job.ready_ns, start_ns)
                    if start_ns > now_ns:
                        break
                    self._decided_ns = start_ns
                self._step = self.begin_step(start_ns)
            if self._step.end_ns > now_ns:
                break
            self._finish_step(self._step, emissions)
            self._step = None
        return emissions

    def stats(self) -> Stats:
        self._stats.running = len(self.running)
        self._stats.waiting = len(self.waiting)
        self._stats.kv_usage = self.pool.used / self.pool.capacity
        return self._stats

    def reset_cache(self) -> bool:
        return self.pool.reset()

    def begin_step(self, start_ns: int) -> Step:
        """Composes the step that starts at `start_ns`: the schedule, its blocks and its length."""
        profile = self.profile
        work: list[tuple[_Sequence, int]] = []
        budget = profile.max_num_batched_tokens
        decodes = context = prefill = 0

        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            job = sequence.job
            tokens = min(job.prompt_tokens + job.generated - sequence.computed, budget)
            end = sequence.computed + tokens
            if end > sequence.room and not self._grow(sequence, end):
                preempted = True
                self._preempt_last()
                continue  # the same sequence again, with more room, unless it was the last one itself
            if tokens == 1 and job.generated:
                decodes += 1
                context += end
            else:
                prefill += tokens
            budget -= tokens
            work.append((sequence, tokens))
            index += 1

        while not preempted and self.waiting and budget > 0 and len(self.running) < profile.max_num_seqs:
            sequence = self.waiting[0]
            job = sequence.job
            if job.ready_ns > self._decided_ns or not self._place(sequence, budget):
                break
            self.waiting.popleft()
            self.running.append(sequence)
            tokens = min(job.prompt_tokens + job.generated - sequence.computed, budget)
            if job.started_ns == NONE:
                job.started_ns = start_ns
                job.cached_tokens = sequence.computed
                self._stats.prefix_queries += job.prompt_tokens if profile.prefix_caching else 0
                self._stats.prefix_hits += sequence.computed
            prefill += tokens
            budget -= tokens
            work.append((sequence, tokens))

        length = profile.step_ns + profile.sequence_ns * decodes + profile.context_ns * context
        if prefill:
            length += max(profile.prefill_floor_ns, profile.prefill_token_ns * prefill)
        if profile.jitter:
            length *= 1 + self._random.uniform(-profile.jitter, profile.jitter)
        self._decided_ns = start_ns
        return Step(start_ns, start_ns + max(1, round(length)), work)

    def _finish_step(self, step: Step, emissions: list[Emission]) -> None:
        carried = 0
        finished = False
        for sequence, tokens in step.work:
            job = sequence.job
            if job.cancelled:
                continue
            prefilling = not job.generated or tokens > 1
            sequence.computed += tokens
            if prefilling:
                carried += tokens
                self._publish(sequence)
            if sequence.computed == job.prompt_tokens + job.generated:
                job.generated += 1
                carried += 1
                emissions.append(Emission(job, step.end_ns, 1))
                if job.generated == job.output_tokens:
                    finished = True
                    self._free(sequence)
                    del self._sequences[job]
        if finished:
            self.running = [sequence for sequence in self.running if sequence.job in self._sequences]
        self._free_ns = step.end_ns
        if not self.profile.async_scheduling:
            self._decided_ns = step.end_ns
        self._stats.iterations[carried] = self._stats.iterations.get(carried, 0) + 1

    def _place(self, sequence: _Sequence, budget: int) -> bool:
        """Gives a waiting sequence its cached blocks and the fresh ones that its first chunk needs. False: no room."""
        job = sequence.job
        # At least the last prompt token is computed: its output is the first new token.
        usable = job.block_hashes[: (job.prompt_tokens - 1) // self.profile.block_size]
        hits = usable[: self.pool.find(usable)] if self.profile.prefix_caching else ()
        cached = len(hits) * self.profile.block_size
        end = min(cached + budget, job.prompt_tokens + job.generated)
        fresh = -(-(end - cached) // self.profile.block_size)
        if self.pool.used + self.pool.idle_among(hits) + fresh > self.pool.capacity:
            return False
        self.pool.share(hits)
        self.pool.allocate(fresh)
        sequence.computed = cached
        sequence.published = len(hits)
        sequence.room = cached + fresh * self.profile.block_size
        return True

    def _grow(self, sequence: _Sequence, end: int) -> bool:
        blocks = -(-(end - sequence.room) // self.profile.block_size)
        if not self.pool.allocate(blocks):
            return False
        sequence.room += blocks * self.profile.block_size
        return True

    def _publish(self, sequence: _Sequence) -> None:
        """Makes the prompt blocks that are computed by now findable, up to the first that another one published."""
        if not self.profile.prefix_caching:
            return
        full = min(sequence.computed // self.profile.block_size, len(sequence.job.block_hashes))
        while sequence.published < full and self.pool.publish(sequence.job.block_hashes[sequence.published]):
            sequence.published += 1

    def _preempt_last(self) -> None:
        sequence = self.running.pop()
        self._free(sequence)
        sequence.computed = 0
        sequence.job.preemptions += 1
        self._stats.preemptions += 1
        self.waiting.appendleft(sequence)

    def _free(self, sequence: _Sequence) -> None:
        self.pool.unshare(sequence.job.block_hashes[: sequence.published])
        self.pool.release(sequence.room // self.profile.block_size - sequence.published)
        sequence.published = sequence.room = 0
