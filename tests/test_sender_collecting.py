"""What a sender process does after a point, when it turns its spool into columns: memory, and garbage collections."""

import gc
from pathlib import Path

import pytest

from latency_profile.records import Status
from latency_profile.sender.collect import collect
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.job import Collect
from tests.driving import Load, send
from tests.servers import odd
from tests.servers.odd import Call, Odd

NOTES_COLLECTIONS = """
import gc, sys

def note(phase, info):
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "collect" and frame.f_code.co_filename.endswith("sender/collect.py"):
            open({path!r}, "a").write(phase[:5] + "\\n")
            return
        frame = frame.f_back

gc.callbacks.append(note)
"""


def test_no_garbage_is_collected_while_answers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would look at its events again and again, and find nothing."""
    log = tmp_path / "collections"
    (tmp_path / "sitecustomize.py").write_text(NOTES_COLLECTIONS.format(path=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Odd(lambda call: call.send(odd.whole(5000))) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 50]))
    assert driven.statuses == [Status.OK] * 2
    assert not log.exists(), log.read_text()


def test_reading_answers_leaves_no_cycles(tmp_path: Path) -> None:
    """What it left would stay for long: of good answers, of refusals, and of those with bytes behind them."""
    answers = [
        odd.whole(3),
        odd.whole(3) + odd.whole(9),
        odd.whole(3) + b"\0",
        odd.plain(b"later", "text/plain", "503 Later"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ]

    def script(call: Call) -> None:
        call.send(answers[call.index % len(answers)])

    with Odd(script) as server, Fleet(1) as fleet:
        count = 4 * len(answers)
        send(fleet, server, tmp_path, Load(count=count, concurrency=1))
    order = Collect(
        spool=str(tmp_path / "spool-0"),
        columns=str(tmp_path / "again"),
        start_ns=0,
        backend="vllm",
        endpoint="completions",
        streaming=True,
        bodies=str(tmp_path / "bodies"),
        bounds=str(tmp_path / "bounds"),
        secrets=[],
    )
    collect(order)  # what is made but once
    gc.collect()
    gc.disable()
    try:
        assert collect(order).rows == count
        assert gc.collect() < count // len(answers), "less than one for each answer of a kind"
    finally:
        gc.enable()
