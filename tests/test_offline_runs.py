"""How benchmark_offline.py goes through its runs: what each engine is given, in which order, and what is counted."""

from typing import cast

import pytest

from latency_profile.engines.exchange import Batch, Ran, Ready
from latency_profile.engines.process import EngineLost, EngineProcess
from latency_profile.errors import UsageError
from latency_profile.offline import studies
from latency_profile.offline.measure import Measured, measure
from latency_profile.workload import Lengths

READY = Ready("an engine", "1", "a model", "CPU", None, 1000, 4096, 8192, 4, True, 1.0)


class Engine:
    """What `measure` needs of an engine's process. Dies in the batch of number `dies_at`."""

    def __init__(self, dies_at: int | None = None, ready: Ready = READY) -> None:
        self.ready = ready
        self.given: list[Batch] = []
        self._dies_at = dies_at

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, batch: Batch) -> Ran:
        if len(self.given) == self._dies_at:
            raise EngineLost("the engine was lost: it ended with exit code 1", "")
        self.given.append(batch)
        n = len(batch.prompts)
        return Ran(1.0, [0.5] * n, [1.0] * n, [len(prompt) for prompt in batch.prompts], batch.output_tokens)


def measured(cells: list[studies.Cell], repeats: int, *engines: Engine) -> Measured:
    following = iter(engines)
    return measure(
        cells, [repeats] * len(cells), 0, lambda: cast(EngineProcess, next(following)), tell=lambda line: None
    )


CELLS = studies.batch_size([1, 3], Lengths.fixed(16), Lengths.fixed(4), seed=0)


def test_one_request_goes_before_each_run_and_is_not_counted() -> None:
    engine = Engine()
    found = measured(CELLS, 2, engine)
    before, run = engine.given[::2], engine.given[1::2]
    assert all(len(batch.prompts) == 1 for batch in before)
    assert [len(batch.prompts) for batch in run[:2]] == [1, 3]  # the first of each is not counted either
    assert [(len(runs.full), len(runs.prefill)) for runs in found.cells] == [(2, 2)] * 2
    assert len(run) == 2 + 2 * 2 * 2


def test_no_prompt_is_given_twice() -> None:
    engine = Engine()
    measured(CELLS, 3, engine)
    prompts = [tuple(prompt) for batch in engine.given for prompt in batch.prompts]
    assert len(set(prompts)) == len(prompts)


def test_an_engine_that_was_started_again_is_warmed_up_again() -> None:
    first, second = Engine(dies_at=7), Engine()  # in the second counted run
    found = measured(CELLS, 5, first, second)
    (lost,) = (runs for runs in found.cells if runs.trouble)
    (other,) = (runs for runs in found.cells if not runs.trouble)
    counted = len(other.full) + len(other.prefill)
    assert counted == 10
    on_second = counted - sum(len(batch.prompts) == len(other.cell) for batch in first.given[5::2])
    assert len(second.given) == 2 * (1 + on_second)  # its first run is not counted
    assert second.given[1].output_tokens == list(other.cell.outputs)
    assert not {len(batch.prompts) for batch in second.given[1::2]} & {len(lost.cell)}


def test_a_request_that_is_longer_than_the_model_is_refused_before_anything_runs() -> None:
    engine = Engine()
    with pytest.raises(UsageError, match="batch-size 2: a request of 5000 tokens"):
        measured(studies.batch_size([2], Lengths.fixed(4990), Lengths.fixed(10), 0), 1, engine)
    assert engine.given == []
