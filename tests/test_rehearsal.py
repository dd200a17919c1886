"""Every server's every door, streaming and not, as a user rehearses it: the tool against the embedded server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import backends
from backends.base import Traits
from latency_profile.outcome import Flag, Status
from latency_profile.records import Records, load
from latency_profile.simulator.log import TruthLog
from tests.servers.simulator import Simulator, simulator
from tests.tool import benchmark

TOKENS = 8
REQUESTS = 16
FAULTY_REQUESTS = 80
# What each fault is to be called. Kinds that leave an answer whole are OK.
CALLED = {
    "": {Status.OK},
    "half_first": {Status.OK},
    "401": {Status.HTTP_UNAUTHORIZED},
    "429": {Status.HTTP_TOO_MANY_REQUESTS},
    "500": {Status.HTTP_SERVER_ERROR},
    "502": {Status.HTTP_GATEWAY},
    "503": {Status.HTTP_UNAVAILABLE},
    "redirect": {Status.HTTP_REDIRECT},
    "disconnect": {Status.DISCONNECTED},
    "reset": {Status.RESET},
    "truncate": {Status.TRUNCATED},
    "stall": {Status.STALLED},
    "error_event": {Status.ERROR_EVENT, Status.ERROR_BODY},
    "malformed": {Status.MALFORMED},
    "empty": {Status.EMPTY},
}
FAULTS = ",".join(f"{kind}:0.05" for kind in CALLED if kind not in ("", "half_first"))


def _doors() -> Iterator[object]:
    """(backend, door, streaming). Of each backend the first door that can is always run, the others are slow tests."""
    for name in backends.NAMES:
        seen: set[bool] = set()
        for door, make in backends.load(name).doors.items():
            for stream, can in ((False, make.traits.answers_whole), (True, make.traits.streams)):
                if can:
                    marks = [pytest.mark.slow] if stream in seen else []
                    seen.add(stream)
                    label = f"{name}-{door}-{'stream' if stream else 'whole'}"
                    yield pytest.param((name, door, stream), marks=marks, id=label)


def called(fault: str, door: tuple[str, str, bool]) -> set[Status]:
    """The statuses that a fault may have at a door."""
    if (door, fault) in ((("tgi", "generate", True), "429"), (("jetstream", "decode", True), "500")):
        return {Status.ERROR_EVENT}  # which these servers say in a stream of status 200
    return CALLED[fault]


def rehearse(server: Simulator, folder: Path, door: tuple[str, str, bool], *flags: str) -> Records:
    """One point of the tool; its records."""
    name, endpoint, stream = door
    traits: Traits = backends.load(name).doors[endpoint].traits
    run = benchmark(
        f"--backend={name}",
        f"--endpoint={endpoint}",
        "--host=127.0.0.1",
        f"--port={server.url.rstrip('/').rpartition(':')[2]}",
        "--models=simulated",
        "--tokenizer=bundled",
        "--input-len=32",
        f"--output-len={TOKENS}",
        "--save-json-results",
        f"--output-dir={folder}",
        *(["--stream-request"] if stream else []),
        *(["--ignore-eos"] if traits.exact_length else []),
        *flags,
    )
    assert run.returncode in (0, 4), run.stderr
    (path,) = folder.glob("*.npz")
    return load(path)


def order_in(truth: TruthLog, records: Records) -> NDArray[np.intp]:
    """Where the log has each request."""
    places = {name.rpartition("-")[2]: place for place, name in enumerate(truth.request_id.tolist())}
    return np.array([places[str(index)] for index in records["index"]])


@pytest.mark.parametrize("door", list(_doors()))
def test_a_profile_of_each_door(door: tuple[str, str, bool], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    flags = ("--backend", door[0], "--model", "simulated", "--fixed-timing", "10,3")
    with simulator(tmp_path / "log", *flags) as server:
        records = rehearse(server, tmp_path, door, "--concurrencies=4", f"--num-prompts={REQUESTS}")
        truth = server.truth()
    assert [Status(value).name for value in records["status"]] == ["OK"] * REQUESTS, records.context.client
    of = order_in(truth, records)
    assert records["output_tokens"].tolist() == truth.output_tokens[of].tolist() == [TOKENS] * REQUESTS
    assert (records["flags"] & Flag.KERNEL_STAMPS).all()
    if not door[2]:
        assert (np.diff(records.event_start) == 0).all()
        return
    assert np.add.reduceat(records.event_tokens, records.event_start[:-1]).tolist() == [TOKENS] * REQUESTS
    written = truth.written_ns[truth.event_start[of]] - records.context.started_monotonic_ns
    late = records["first_token_ns"] - written
    assert late.min() > -1_000_000  # an event does not come before it was written
    assert np.median(late) < 5_000_000


@pytest.mark.parametrize("door", list(_doors()))
def test_every_fault_by_its_name(door: tuple[str, str, bool], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    flags = ("--backend", door[0], "--model", "simulated", "--fixed-timing", "10,3", "--fault", FAULTS)
    with simulator(tmp_path / "log", *flags) as server:
        asked = ("--concurrencies=8", f"--num-prompts={FAULTY_REQUESTS}", "--request-timeout=1")
        records = rehearse(server, tmp_path, door, *asked)
        truth = server.truth()
    faults = truth.fault[order_in(truth, records)].tolist()
    wrong = [
        (fault, Status(status).name)
        for fault, status in zip(faults, records["status"], strict=True)
        if status not in called(fault, door)
    ]
    assert not wrong
    assert len(set(faults)) > 8  # of 13, each in a request of twenty
