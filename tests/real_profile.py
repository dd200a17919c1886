"""One point of a real server, measured as a user does it: what tests hold against the server's own counts."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from latency_profile import records
from latency_profile.records import NONE, Records, Status
from latency_profile.sender.fleet import Fleet
from tests.driving import Driven, Load, drive, target_of
from tests.tool import benchmark, only_point


@dataclass(frozen=True)
class Profiled:
    """How a run ended, its records and its point file."""

    done: subprocess.CompletedProcess[str]
    rows: Records
    point: dict[str, Any]

    @property
    def statuses(self) -> Counter[Status]:
        return Counter(Status(value) for value in self.rows["status"])

    @property
    def messages(self) -> str:
        """What the failed requests were told, in the server's words."""
        return "\n".join(line for lines in self.point["client"]["error_samples"].values() for line in lines)

    @property
    def tokens_by_events(self) -> list[int]:
        """Each request's tokens, summed over the events that carried them."""
        bounds = zip(self.rows.event_start[:-1], self.rows.event_start[1:], strict=True)
        return [int(self.rows.event_tokens[start:end].sum()) for start, end in bounds]


def read(done: subprocess.CompletedProcess[str], folder: Path) -> Profiled:
    """What the run wrote into `folder`."""
    paths = list(folder.glob("*.records.npz"))
    assert len(paths) == 1, done.stderr
    return Profiled(done, records.load(paths[0]), only_point(folder))


def profile(folder: Path, *flags: str, timeout: float = 120) -> Profiled:
    """A profile of one point with these flags."""
    done = benchmark(f"--output-dir={folder}", "--save-json-results", *flags, timeout=timeout)
    assert done.returncode in (0, 4), done.stderr
    return read(done, folder)


def check_refused(profiled: Profiled, status: Status, http_status: int, words: str) -> None:
    """Every request failed with this status and these words, none counts for anything, and the exit code says so."""
    rows = profiled.rows
    assert profiled.statuses == {status: len(rows)}, profiled.messages
    assert set(rows["http_status"].tolist()) == {http_status}
    assert words in profiled.messages
    assert profiled.done.returncode == 4
    assert profiled.point["metrics"]["num_prompts_succeeded"] == 0
    assert (rows["output_tokens"] <= 0).all()
    assert (rows["first_token_ns"] == NONE).all()


def send_bodies(url: str, folder: Path, backend: str, endpoint: str, path: str, *bodies: bytes) -> Driven:
    """What the sender makes of requests that a profile would never send, one after another, streaming."""
    load = Load(
        count=len(bodies), concurrency=1, bodies=bodies, paths=[path], backend=backend, endpoint=endpoint, timeout_s=30
    )
    with Fleet(1) as fleet:
        return drive(fleet, target_of("", 0, url=url), folder, load)


def metric(url: str, name: str, labels: str = "") -> float:
    """A metric of the server summed over its labels, or over those with `labels` among them, in its text format."""
    text = requests.get(url, timeout=30).text
    found = re.findall(rf"^{re.escape(name)}(?:\{{([^}}]*)\}})? (\S+)$", text, re.MULTILINE)
    assert found, f"no {name} in {url}"
    return sum(float(value) for held, value in found if labels in held)
