"""What every timing model takes and gives: jobs in, tokens with their exact due times out. Virtual time only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

NONE = -1  # a time that has not come


@dataclass(slots=True, eq=False)
class Job:
    """One request as the timing model sees it. Times are CLOCK_MONOTONIC ns (in tests: any ns)."""

    arrival_ns: int
    prompt_tokens: int
    output_tokens: int  # how many will be generated, drawn before it begins
    key: int = 0  # seeds what is drawn for this job; the same prompt has the same key
    block_hashes: Sequence[int] = ()  # chained hashes of the prompt's full cache blocks; empty: no prefix caching
    generated: int = 0
    ready_ns: int = NONE  # when the scheduler could first see it
    started_ns: int = NONE  # when it was first scheduled
    first_ns: int = NONE  # when its first and its latest tokens were due
    last_ns: int = NONE
    cached_tokens: int = 0  # prompt tokens found in the prefix cache when first scheduled
    preemptions: int = 0
    cancelled: bool = False


class Emission(NamedTuple):
    """`tokens` tokens of `job` that are complete at `due_ns`."""

    job: Job
    due_ns: int
    tokens: int


@dataclass(slots=True)
class Stats:
    """What /metrics says of a timing model beside its requests."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0  # 1 is full
    preemptions: int = 0
    prefix_queries: int = 0  # prompt tokens looked up
    prefix_hits: int = 0  # prompt tokens found
    iterations: dict[int, int] = field(default_factory=dict)  # engine steps by how many tokens they carried


class Timing(Protocol):
    """When tokens come. Pure: knows the time only as the argument that it is given."""

    def admit(self, job: Job) -> None:
        """Takes a job that has arrived. Jobs come in the order in which they are to be served."""

    def cancel(self, job: Job) -> None:
        """The client is gone: no further tokens for this job."""

    def next_due(self) -> int | None:
        """When `run` has something to do next, in ns; None while there is nothing."""

    def run(self, now_ns: int) -> list[Emission]:
        """Everything that is due until `now_ns`, in order of its due time."""

    def stats(self) -> Stats:
        """The state right now."""

    def reset_cache(self) -> bool:
        """Forgets all prompts that were computed; False, and nothing is forgotten, while jobs hold any of them."""
