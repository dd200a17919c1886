"""Shards of one plan as processes of their own, as pods run them: against one process, killed, restarted, at odds."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.cli import main
from latency_profile.records import Records, Status
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.shard_records import chosen
from tests.test_shards import assert_same
from tests.tool import SYNTHETIC, called, command, environment, latency_profile_command, point_files, read_point

NS = 1_000_000_000
PROMPTS = 40
RATE = 30.0


@dataclass
class Pods:
    """Starts shards, and waits for them. Their store is one folder, as a volume would be."""

    folder: Path
    flags: list[str]
    shards: int = 3
    started: dict[int, "subprocess.Popen[str]"] = field(default_factory=dict)

    def start(self, index: int, *more: str, **env: str) -> "subprocess.Popen[str]":
        flags = [f"--shards={self.shards}", f"--shard-index={index}", "--run-id=night-1", "--save-json-results"]
        self.started[index] = subprocess.Popen(
            command(*self.flags, f"--output-dir={self.folder}", *(flags[:1] + flags[2:] if env else flags), *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        )
        return self.started[index]

    def end(self, index: int, timeout_s: float = 90) -> tuple[int, str, str]:
        out, err = self.started[index].communicate(timeout=timeout_s)
        return self.started[index].returncode, out, err

    def kill(self) -> None:
        for process in self.started.values():
            process.kill()
            process.communicate()

    @property
    def run(self) -> Path:
        return self.folder / "night-1"

    def wait_for(self, name: str, within_s: float = 60) -> Path:
        """A file of the run's."""
        deadline = time.monotonic() + within_s
        while not (self.run / name).exists():
            ended = [each for each in self.started.values() if each.poll() not in (None, 0)]
            assert not ended, ended[0].communicate()[1]
            assert time.monotonic() < deadline, f"no {name}: {[path.name for path in self.run.rglob('*')]}"
            time.sleep(0.02)
        return self.run / name

    def started_at(self, point: int) -> float:
        """Unix time of the point's start."""
        return float(json.loads(self.wait_for(f"point-{point}/start.json").read_text())["start_unix_ns"]) / NS

    def records(self, point: int, shard: int) -> Records:
        return records.load(self.run / f"point-{point}" / f"shard-{shard}.records.npz")


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Callable[..., Pods]]:
    made: list[Pods] = []

    def make(*flags: str, shards: int = 3) -> Pods:
        made.append(Pods(tmp_path / f"store-{len(made)}", list(flags), shards))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The embedded model server, of exact timing."""
    with simulator("--fixed-timing", "100,5,0.4", "--model", "m") as number:
        yield number


def against(port: int, *more: str) -> list[str]:
    return ["--host=127.0.0.1", f"--port={port}", "--models=m", *SYNTHETIC, "--stream-request", "--workers=2", *more]


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The point files of a run, in the order of its points."""
    found = [read_point(path) for path in point_files(folder) if path.name.startswith("benchmark-")]
    return sorted(found, key=lambda point: float(point["config"]["start_time"]["seconds"]))


def serve(call: Call) -> None:
    call.send(odd.whole(3) if call.head.startswith(b"POST") else odd.plain(b"", "", "404 Not Found"))


def test_three_pods_send_what_one_process_sends(tmp_path: Path, pods: Callable[..., Pods]) -> None:
    """Byte for byte, at the same offsets, each request once."""
    flags = ["--tokenizer=bundled", "--models=a,b", "--traffic-split=0.7,0.3", "--input-len=40", "--input-len-stddev=9"]
    flags += ["--input-len-min=10", "--output-len=3", "--request-rates=60,inf", f"--num-prompts={PROMPTS}"]
    flags += ["--stream-request", "--seed=5", "--host=127.0.0.1"]

    def sent(server: Odd) -> tuple[dict[tuple[int, int], tuple[bytes, bytes]], int]:
        calls = [call for call in server.calls if call.head.startswith(b"POST")]
        port = b":%d" % server.port
        of = {(int(call.request_id.split("-")[-2]), call.index): call for call in calls}
        return {place: (call.head.replace(port, b""), call.body) for place, call in of.items()}, len(calls)

    with Odd(serve) as server:
        alone = ["--nonce=00ff", f"--port={server.port}", f"--output-dir={tmp_path / 'one'}", "--save-json-results"]
        subprocess.run(command(*flags, *alone), env=environment(), capture_output=True, check=False, timeout=60)
        one, count = sent(server)
    assert count == len(one) == 2 * PROMPTS
    with Odd(serve) as server:
        three = pods(*flags, "--workers=2", f"--port={server.port}")
        three.start(2, JOB_COMPLETION_INDEX="2")  # as an Indexed Job tells it
        three.start(1)
        three.start(0, "--nonce=00ff")
        ends = {index: three.end(index) for index in range(3)}
        assert all(code in (0, 4) for code, _, _ in ends.values()), ends
        many, count = sent(server)
    assert count == len(many) == 2 * PROMPTS, "each request once"
    assert many == one
    single = sorted((tmp_path / "one").glob("*.npz"), key=lambda path: records.load(path).context.point)
    for number, path in enumerate(single):
        of_one, parts = records.load(path), [three.records(number, shard) for shard in range(3)]
        assert [set((part["index"] % 3).tolist()) for part in parts] == [{0}, {1}, {2}]
        for name in ("index", "due_ns", "model", "input_tokens", "wanted_tokens"):
            together = np.concatenate([part[name] for part in parts])
            assert np.array_equal(together[np.argsort(np.concatenate([p["index"] for p in parts]))], of_one[name]), name


def test_the_merged_point_is_the_union_and_merge_says_the_same(
    port: int, tmp_path: Path, pods: Callable[..., Pods]
) -> None:
    three = pods(*against(port, f"--request-rate={RATE}", "--benchmark-time-seconds=8"))
    for index in (1, 2, 0):
        three.start(index)
    ends = {index: three.end(index) for index in range(3)}
    assert [ends[index][0] for index in (1, 2)] == [0, 0], ends
    assert ends[0][0] in (0, 4), ends  # 4: a busy machine
    assert "handed in; shard 0 judges the whole" in ends[1][2]
    (point,) = results_of(three.run)
    shards = point["load"]["shards"]
    assert (shards["planned"], shards["present"], shards["missing"]) == (3, [0, 1, 2], [])
    assert shards["missing_share"] == 0 and not shards["restarted"] and not shards["not_sent"]
    assert shards["clock_error_s"] < 2, "one machine, one clock: as wide as the polls"
    (path,) = three.run.glob("*.records.npz") or three.folder.glob("*.records.npz")
    whole = records.load(path)
    parts = [three.records(0, shard) for shard in range(3)]
    for shard, part in enumerate(parts):
        assert_same(chosen(whole, whole["index"] % 3 == shard), part)
    assert sorted(whole["index"].tolist()) == list(range(len(whole)))
    assert set(whole["worker"].tolist()) == set(range(6)), "three pods of two processes"
    ok = whole["status"] == Status.OK
    ttft = (whole["first_token_ns"] - whole["sent_ns"])[ok] / 1e6
    assert point["metrics"]["median_TTFT_ms"] == pytest.approx(np.median(ttft))
    assert point["metrics"]["p99_TTFT_ms"] == pytest.approx(np.percentile(ttft, 99))
    assert point["metrics"]["num_prompts_attempted"] == len(whole)
    starts = [part.context.started_ns for part in parts]
    assert max(starts) - min(starts) < NS // 2, "they began together"

    done = latency_profile_command("merge", str(three.run), "-o", str(tmp_path / "hand"))
    assert done.returncode == ends[0][0], done.stderr
    (again,) = results_of(tmp_path / "hand")
    assert again == point
    for lost in (*three.run.glob("index*.json"), *three.run.glob("benchmark-*.json")):
        lost.unlink()
    three.start(0)
    code, _, err = three.end(0)  # lost between "merged" and the index: judged again, from what all have handed in
    assert code == ends[0][0], err
    assert results_of(three.run) == [point] and list(three.run.glob("*-profile-*.json"))
    files = [str(three.run / "point-0" / f"shard-{shard}.records.npz") for shard in (0, 2)]
    done = called(main, "merge", *files, f"-o={tmp_path / 'two'}")
    assert done.returncode == 4 and re.search(r"Shard 1 of 3 is missing: 33\.\d% of the plan", done.stdout)


def test_a_pod_killed_in_mid_point_is_named(port: int, pods: Callable[..., Pods]) -> None:
    three = pods(*against(port, f"--request-rates={RATE},{RATE}", "--benchmark-time-seconds=5", "--shard-timeout=10"))
    for index in range(3):
        three.start(index)
    time.sleep(max(0.0, three.started_at(0) + 2 - time.time()))
    three.started[2].send_signal(signal.SIGKILL)
    assert three.end(1)[0] == 0
    code, out, err = three.end(0)
    assert code == 4, err
    assert "no records of shard 2 after 10 s: merged without" in err
    assert re.search(r"Shard 2 of 3 is missing: 3[23]\.\d% of the plan", out)
    first, second = results_of(three.run)
    for point in (first, second):
        assert point["verdict"]["verdict"] == "CLIENT_LIMITED"
        assert re.match(r"Shard 2 of 3 is missing: 3[23]\.\d% of the plan", point["verdict"]["reasons"][0])
        shards = point["load"]["shards"]
        assert (shards["present"], shards["missing"]) == ([0, 1], [2])
        assert shards["missing_share"] == pytest.approx(1 / 3, abs=0.01)
    assert three.started_at(1) - three.started_at(0) < 5 + 10 + 12, "the second point does not wait for it again"
    (spool,) = three.run.glob(".point-0-*")
    out = three.folder / "recovered"
    done = called(main, "recover", str(spool), str(out))
    assert done.returncode == 4, done.stderr
    (alone,) = results_of(out)
    assert alone["load"]["shards"]["missing"] == [0, 1], "a third of the load, and no point of its own"
    assert alone["verdict"]["verdict"] == "CLIENT_LIMITED"
    files = [str(three.run / "point-0" / f"shard-{shard}.records.npz") for shard in (0, 1)]
    files += [str(path) for path in out.glob("*.records.npz")]
    done = called(main, "merge", *files, "-o", str(three.folder / "joined"))
    assert done.returncode == 4, done.stderr
    (joined,) = results_of(three.folder / "joined")
    assert joined["load"]["shards"]["missing"] == [] and set(joined["load"]["shards"]["cut_short"]) == {"2"}
    assert joined["metrics"]["num_prompts_attempted"] > first["metrics"]["num_prompts_attempted"]


@pytest.mark.slow
def test_a_pod_that_comes_back_in_mid_point_goes_on_with_the_plan(port: int, pods: Callable[..., Pods]) -> None:
    three = pods(*against(port, f"--request-rates={RATE},{RATE}", "--benchmark-time-seconds=10", "--shard-timeout=30"))
    for index in range(3):
        three.start(index)
    time.sleep(max(0.0, three.started_at(0) + 1 - time.time()))
    three.started[1].kill()
    three.started[1].communicate()
    three.start(1)
    ends = {index: three.end(index) for index in range(3)}
    assert (ends[0][0], ends[1][0], ends[2][0]) == (4, 0, 0), ends
    first, second = results_of(three.run)
    shards = first["load"]["shards"]
    assert shards["missing"] == [] and shards["restarted"] == {"1": 2}
    late_s, count = shards["late"]["1"], shards["not_sent"]["1"]
    assert 1 < late_s < 9
    assert count == pytest.approx((late_s + 1) * RATE / 3, abs=4 * (late_s * RATE / 3) ** 0.5)
    assert first["load"]["counts"]["not_sent"] == count, "as rows of their own"
    part = three.records(0, 1)
    left = part["status"] == Status.NOT_SENT
    assert left.sum() == count and part["due_ns"][left].max() < part["due_ns"][~left].min()
    assert (part["sent_ns"] - part["due_ns"])[~left].max() < NS, "the rest at its own time, and not in a burst"
    assert first["verdict"]["verdict"] == "CLIENT_LIMITED"
    assert first["verdict"]["reasons"][0].startswith("Shard 1 of 3 was restarted (attempt 2) and went on ")
    assert second["load"]["shards"]["not_sent"] == {} and second["load"]["counts"]["not_sent"] == 0
    assert second["load"]["shards"]["restarted"] == {"1": 2}


def test_shard_0_comes_back_and_judges_all(port: int, pods: Callable[..., Pods]) -> None:
    """In the second of two points: the first is in the index, and the profile has both."""
    two = pods(*against(port, f"--request-rates={RATE},{RATE}", "--benchmark-time-seconds=10"), shards=2)
    for index in range(2):
        two.start(index)
    time.sleep(max(0.0, two.started_at(1) + 1 - time.time()))
    two.started[0].kill()
    two.started[0].communicate()
    (two.run / "point-0" / "merged.json").unlink()  # as if shard 0 had been lost before it could write that
    two.start(0)
    ends = {index: two.end(index) for index in range(2)}
    assert (two.run / "point-0" / "merged.json").exists()
    assert (ends[0][0], ends[1][0]) == (4, 0), ends
    assert "in the index of this run, and not measured again" in ends[0][2]
    first, second = results_of(two.run)
    assert first["load"]["shards"]["restarted"] == {} and second["load"]["shards"]["restarted"] == {"0": 2}
    assert re.match(r"Shard 0 of 2 was restarted \(attempt 2\)", second["verdict"]["reasons"][0])
    (profile,) = (json.loads(path.read_text()) for path in two.run.glob("*-profile-*.json"))
    assert len(profile["points"]) == 2


def test_a_signal_to_all_keeps_what_all_have(port: int, pods: Callable[..., Pods]) -> None:
    """As when the Job is deleted: each pod hands in what it has, and shard 0 has it judged, within the grace period."""
    three = pods(*against(port, f"--request-rate={RATE}", "--benchmark-time-seconds=10"))
    for index in range(3):
        three.start(index)
    time.sleep(max(0.0, three.started_at(0) + 3 - time.time()))
    told, after_s = time.monotonic(), time.time() - three.started_at(0)
    for process in three.started.values():
        process.send_signal(signal.SIGTERM)
    ends = {index: three.end(index) for index in range(3)}
    assert time.monotonic() - told < 30, "the grace period of a pod"
    assert [ends[index][0] for index in range(3)] == [143] * 3, ends
    (point,) = results_of(three.run)
    assert point["cut_short"] == "SIGTERM"
    assert point["load"]["shards"]["present"] == [0, 1, 2] and point["load"]["shards"]["not_sent"] == {}
    attempted = point["metrics"]["num_prompts_attempted"]  # a busy machine hears of the signal a little later
    assert after_s * RATE - 4 * (after_s * RATE) ** 0.5 < attempted < (after_s + 2) * RATE + 4 * (after_s * RATE) ** 0.5
    assert point["verdict"]["verdict"] == "CLIENT_LIMITED" and "cut short by SIGTERM" in point["verdict"]["reasons"][0]
    assert not (three.run / "point-0" / "merged.json").exists()
    nonce = three.records(0, 0).context.nonce
    for index in (1, 2, 0):  # a run that goes on measures it again
        three.start(index)
    assert_measured_again(three, {index: three.end(index) for index in range(3)}, nonce)


def assert_measured_again(pods: Pods, ends: dict[int, tuple[int, str, str]], nonce: str) -> None:
    """The whole of the point, by all, in a second round under another nonce than the first one's."""
    assert ends[0][0] in (0, 4) and {ends[index][0] for index in ends if index} == {0}, ends  # 4: a busy machine
    assert (pods.run / "point-0" / "merged.json").exists()
    point = results_of(pods.run)[-1]
    found = point["load"]["shards"]
    assert point["cut_short"] is None and found["present"] == sorted(ends)
    assert not found["not_sent"] and not found["cut_short"] and not found["missing"]
    assert point["metrics"]["num_prompts_attempted"] == pytest.approx(10 * RATE, abs=4 * (10 * RATE) ** 0.5)
    again = records.load(pods.run / "point-0" / "round-2" / "shard-0.records.npz").context
    assert again.nonce != nonce and again.provenance["workload"]["nonce"] == again.nonce
    (merged,) = (
        path
        for path in pods.run.rglob("*.records.npz")
        if records.load(path).context.nonce == again.nonce and "point-0" not in path.parts
    )
    done = called(main, "merge", str(pods.run), "-o", str(pods.folder / "hand"))
    assert done.returncode == ends[0][0], done.stderr
    (by_hand,) = (pods.folder / "hand").glob("*.records.npz")
    assert_same(records.load(by_hand), records.load(merged))


def test_a_point_that_shard_0_left_is_sent_again(port: int, pods: Callable[..., Pods]) -> None:
    """Its node is drained in the last point. The other shard has handed in all it had, and is still there."""
    two = pods(*against(port, f"--request-rate={RATE}", "--benchmark-time-seconds=10"), shards=2)
    for index in range(2):
        two.start(index)
    time.sleep(max(0.0, two.started_at(0) + 3 - time.time()))
    two.started[0].send_signal(signal.SIGTERM)
    code, _, err = two.end(0)
    assert code == 143, err
    assert "point 1 is not judged: shard 0 was stopped before the others" in err
    assert not results_of(two.run)
    nonce = two.records(0, 0).context.nonce
    two.start(0)
    assert_measured_again(two, {index: two.end(index) for index in range(2)}, nonce)


def test_a_pod_that_is_told_to_go_is_named(port: int, pods: Callable[..., Pods]) -> None:
    two = pods(*against(port, f"--request-rate={RATE}", "--benchmark-time-seconds=8"), shards=2)
    for index in range(2):
        two.start(index)
    time.sleep(max(0.0, two.started_at(0) + 3 - time.time()))
    two.started[1].send_signal(signal.SIGTERM)
    assert two.end(1)[0] == 143
    assert two.end(0)[0] == 4
    (point,) = results_of(two.run)
    assert point["cut_short"] is None and point["load"]["shards"]["cut_short"] == {"1": "SIGTERM"}
    words = r"Shard 1 of 2 was cut short by SIGTERM: (\d+) of its \d+ requests were not sent"
    found = re.match(words, point["verdict"]["reasons"][0])
    assert found and int(found[1]) == pytest.approx(5 * RATE / 2, abs=4 * (5 * RATE / 2) ** 0.5)


def test_a_pod_that_never_comes_is_not_waited_for_for_ever(port: int, pods: Callable[..., Pods]) -> None:
    two = pods(*against(port, "--concurrencies=4", "--num-prompts=20", "--shard-timeout=2"), shards=2)
    two.start(0)
    code, _, err = two.end(0)
    assert code == 4, err
    assert "waiting for shard 1" in err and "shard 1 not there after 2 s: the point starts without" in err
    (point,) = results_of(two.run)
    assert point["verdict"]["reasons"][0].startswith("Shard 1 of 2 is missing: 50.0% of the clients")
    assert point["metrics"]["num_prompts_attempted"] == 10
    assert two.records(0, 0).context.parts[0].whole == 4


def test_pods_of_different_plans_send_nothing(pods: Callable[..., Pods]) -> None:
    with Odd(serve) as server:
        flags = ["--host=127.0.0.1", f"--port={server.port}", "--models=m", *SYNTHETIC, "--num-prompts=20"]
        two = pods(*flags, "--request-rate=20", shards=2)
        two.start(0)
        two.start(1, "--seed=9")
        for index in range(2):
            code, _, err = two.end(index)
            assert code == 2, err
            assert "--shards: shards 1 and 0 are not of one plan: plan: " in err and "seed: 9 and 0" in err
        assert not [call for call in server.calls if call.head.startswith(b"POST")]
    assert not list(two.folder.rglob(".point-*")), "nothing was sent, and nothing is left"
