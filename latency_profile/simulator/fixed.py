"""Servers of exactly known timing: a fixed timeline for each request, and slots with a queue. Virtual time only."""

import random
from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace

from latency_profile.simulator.job import Emission, Job, Stats
from latency_profile.simulator.slots import SlotProfile, Slots


@dataclass(frozen=True, slots=True)
class FixedTimingProfile:
    """First token after `ttft_ns`, then one every `itl_ns`; each length uniform within ± `jitter` (a share, 0 to 1).

    With `ttft_drift` the first token takes so many ns longer for each ns since the first request came.
    """

    ttft_ns: int
    itl_ns: int
    jitter: float = 0.0
    ttft_drift: float = 0.0


class FixedTiming:
    """Every request on its own timeline, whatever the others do. Implements `Timing`.

    Token k of a job is due at arrival + TTFT + k·ITL; with jitter at arrival + the sum of k + 1 lengths, each drawn
    from the seed and the job's key. Sums are of the plan, never of measured times: the timeline does not drift.
    """

    def __init__(self, profile: FixedTimingProfile, seed: int = 0) -> None:
        self.profile = profile
        self.seed = seed
        self._heap: list[tuple[int, int, Job]] = []  # (due of the next token, order of admission, job)
        self._random: dict[Job, random.Random] = {}
        self._admitted = 0
        self._first_arrival_ns: int | None = None
        self._stats = Stats()

    def admit(self, job: Job) -> None:
        job.ready_ns = job.started_ns = job.arrival_ns
        if self.profile.jitter:
            self._random[job] = random.Random((self.seed << 64) ^ job.key)
        if self._first_arrival_ns is None:
            self._first_arrival_ns = job.arrival_ns
        drifted_ns = round(self.profile.ttft_drift * max(0, job.arrival_ns - self._first_arrival_ns))
        ttft_ns = self._length(job, self.profile.ttft_ns) + drifted_ns
        self._admitted += 1
        heappush(self._heap, (job.arrival_ns + ttft_ns, self._admitted, job))

    def cancel(self, job: Job) -> None:
        if job.generated == job.output_tokens or job.cancelled:
            return
        job.cancelled = True
        self._heap = [entry for entry in self._heap if entry[2] is not job]
        heapify(self._heap)
        self._random.pop(job, None)

    def next_due(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def run(self, now_ns: int) -> list[Emission]:
        heap = self._heap
        emissions: list[Emission] = []
        while heap and heap[0][0] <= now_ns:
            due_ns, order, job = heap[0]
            job.generated += 1
            emissions.append(Emission(job, due_ns, 1))
            if job.generated < job.output_tokens:
                heapreplace(heap, (due_ns + self._length(job, self.profile.itl_ns), order, job))
            else:
                heappop(heap)
                self._random.pop(job, None)
        return emissions

    def stats(self) -> Stats:
        self._stats.running = len(self._heap)
        return self._stats

    def reset_cache(self) -> bool:
        return True  # there is none

    def _length(self, job: Job, mean_ns: int) -> int:
        if not self.profile.jitter:
            return mean_ns
        return round(mean_ns * (1 + self._random[job].uniform(-self.profile.jitter, self.profile.jitter)))


class SlotTiming:
    """A queue before slots. Implements `Timing`.

    All tokens of a job come together when it departs. A cancelled job keeps its service time, because departures after
    it are promised already.
    """

    def __init__(self, profile: SlotProfile, seed: int = 0) -> None:
        self._slots = Slots(profile, seed)
        self._departures: list[tuple[int, int, Job]] = []  # heap: (departure, order of admission, job)
        self._starts: deque[int] = deque()  # of jobs that had to queue, ascending
        self._admitted = 0
        self._now_ns = 0
        self._stats = Stats()

    def admit(self, job: Job) -> None:
        start_ns, departure_ns = self._slots.take(job.arrival_ns)
        job.ready_ns, job.started_ns = job.arrival_ns, start_ns
        self._admitted += 1
        self._now_ns = max(self._now_ns, job.arrival_ns)
        self._starts.append(start_ns)
        heappush(self._departures, (departure_ns, self._admitted, job))

    def cancel(self, job: Job) -> None:
        job.cancelled = True

    def next_due(self) -> int | None:
        return self._departures[0][0] if self._departures else None

    def run(self, now_ns: int) -> list[Emission]:
        self._now_ns = now_ns
        emissions: list[Emission] = []
        while self._departures and self._departures[0][0] <= now_ns:
            due_ns, _, job = heappop(self._departures)
            if not job.cancelled:
                job.generated = job.output_tokens
                emissions.append(Emission(job, due_ns, job.output_tokens))
        return emissions

    def stats(self) -> Stats:
        while self._starts and self._starts[0] <= self._now_ns:
            self._starts.popleft()
        self._stats.waiting = len(self._starts)
        self._stats.running = len(self._departures) - self._stats.waiting
        return self._stats

    def reset_cache(self) -> bool:
        return True  # there is none
