"""No secret in a log, a result, an object, a process list or an error, whatever fails."""

import io
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.truth import simulator
from latency_profile.cli import profile
from tests.servers.fake_gcs import flaky, objects
from tests.servers.parrot import FAILURES, FIRST_HALF, HANG_S, parrot
from tests.servers.process import free_port
from tests.tool import SYNTHETIC, called, command, environment

KEY, HEADER, TOKEN = "sk-key-5f0c1d77aa", "hdr-91ee03bc44", "hf_2c6f7d9e0b18"
SECRETS = (KEY, HEADER, TOKEN, KEY[FIRST_HALF:])  # the parrot cuts the key
ENVIRONMENT = {"OPENAI_API_KEY": KEY, "LATENCY_PROFILE_HEADER": f"x-team-key: {HEADER}", "HF_TOKEN": TOKEN}
POINT = ("--backend=openai", "--stream-request", "--request-rate=20", f"--num-prompts={2 * len(FAILURES)}")


def everything(content: bytes) -> Iterator[bytes]:
    """The bytes, and those of what they pack."""
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                yield packed.read(name)


def assert_nowhere(places: Mapping[str, bytes]) -> None:
    assert places
    found = {
        f"{secret} in {place}"
        for place, content in places.items()
        for part in everything(content)
        for secret in SECRETS
        if secret.encode() in part
    }
    assert not found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class ProcessList:
    """What `ps` shows of a process and all below it, collected until it ends."""

    def __init__(self, pid: int) -> None:
        self.seen: dict[str, bytes] = {}
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for pid in self._family(self._pid):
                try:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                self.seen[f"the command line of {pid}: {len(line)} bytes"] = line

    def _family(self, pid: int) -> Iterator[int]:
        yield pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        for child in children:
            yield from self._family(int(child))

    def stop(self) -> dict[str, bytes]:
        self._over.set()
        self._thread.join()
        return self.seen


def run(
    *flags: str, timeout: float = 120, stop_after_s: float | None = None, **env: str
) -> tuple[int, dict[str, bytes]]:
    """Exit code, and what was said and shown."""
    process = subprocess.Popen(
        command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**(ENVIRONMENT | env))
    )
    shown = ProcessList(process.pid)
    try:
        if stop_after_s is not None:
            time.sleep(stop_after_s)
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        lines = shown.stop()
    return process.returncode, {"stdout": out, "stderr": err, **lines}


def test_the_server_repeats_them_in_every_kind_of_failure(bucket: str, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    out = tmp_path / "out"
    with parrot() as url:
        code, shown = run(
            *SYNTHETIC[:-1],
            *POINT,
            f"--url={url}",
            "--scrape-server-metrics",
            f"--request-timeout={HANG_S / 2:g}",
            "--save-json-results",
            f"--output-dir={out}",
            f"--output-bucket={bucket}",
            "--run-id=night",
            f"--termination-log={log}",
        )
    places = {**shown, **files(tmp_path), **objects(os.environ["STORAGE_EMULATOR_HOST"], bucket)}
    assert_nowhere(places)
    said = shown["stdout"] + shown["stderr"]
    assert code in (3, 4), said.decode()
    assert b"***" in said, said.decode()  # what the server repeated was shown, without them


def test_a_first_request_that_is_refused() -> None:
    with parrot() as url:
        code, shown = run(*SYNTHETIC[:-1], *POINT, f"--url={url}", "--wait-for-server=20")
    assert code == 3
    assert_nowhere(shown)
    assert b"***" in shown["stderr"]


def test_parts_of_a_point_that_was_killed(bucket: str, tmp_path: Path) -> None:
    flags = [*SYNTHETIC[:-1], *POINT, "--save-json-results", f"--output-dir={tmp_path}", f"--output-bucket={bucket}"]
    with parrot() as url:
        process = subprocess.Popen(
            command(*flags, f"--url={url}", "--models=m", "--run-id=night", "--request-timeout=30"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(**ENVIRONMENT),
        )
        server, deadline = os.environ["STORAGE_EMULATOR_HOST"], time.monotonic() + 60
        while not any("part-" in name for name in objects(server, bucket)) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.kill()
        process.wait()
    stored = objects(server, bucket)
    assert any("part-" in name for name in stored), sorted(stored)
    assert_nowhere(stored)


@pytest.mark.parametrize("stop_after_s", [0.3, 6.0])
def test_a_run_that_is_stopped(stop_after_s: float, tmp_path: Path) -> None:
    with simulator("--fixed-timing", "50,10") as port:
        flags = ("--request-rate=20", "--num-prompts=400", "--stream-request")
        place = ("--save-json-results", f"--output-dir={tmp_path / 'out'}", f"--port={port}")
        code, shown = run("--host=127.0.0.1", *SYNTHETIC, *flags, *place, stop_after_s=stop_after_s)
    # On a busy machine there is no program yet after 0.3 s that could say how it ended.
    assert code == 143 or (stop_after_s < 1 and code == -signal.SIGTERM)
    (tmp_path / "out").mkdir(exist_ok=True)
    assert_nowhere({**shown, **files(tmp_path)})


def test_nobody_is_there() -> None:
    flags = ("--host=127.0.0.1", f"--port={free_port()}", *SYNTHETIC[:-1], *POINT)
    code, shown = run(*flags)
    assert code == 3
    assert_nowhere(shown)


def test_a_bucket_that_refuses_repeats_what_it_got(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's answers can hold the URL of an upload, which is a key."""
    upload_id = "upload_id=AHmUCY0-a-key-of-its-own"
    upstream = os.environ["STORAGE_EMULATOR_HOST"]
    with flaky(upstream, lambda *_: "before", 403, f"denied: {upload_id} {KEY}") as (proxy, _):
        flags = ("--host=127.0.0.1", f"--port={free_port()}", *SYNTHETIC[:-1], *POINT, f"--output-dir={tmp_path}")
        code, shown = run(*flags, "--save-json-results", f"--output-bucket={bucket}", STORAGE_EMULATOR_HOST=proxy)
    assert code == 2
    assert_nowhere(shown)
    assert upload_id.encode() not in shown["stdout"] + shown["stderr"]


@pytest.mark.parametrize(
    "flag",
    [
        f"--url=http://user:{KEY}@127.0.0.1:1",
        f"--metrics-urls=http://user:{KEY}@127.0.0.1:1/metrics",
        f"--prometheus-url=http://user:{KEY}@127.0.0.1:1",
        f"--output-url=s3://user:{KEY}@bucket/folder",
        f"--output-bucket=gs://{KEY}@bucket",
        f"--header=Authorization {KEY}",
        f"--api-key-env={KEY}",
        f'--extra-body={{"api_key": "{KEY}"',
    ],
)
def test_a_wrong_flag_with_a_secret_in_it(flag: str) -> None:
    """The process list shows it, as its user typed it; an error must not."""
    done = called(profile, "--host=127.0.0.1", "--port=1", *SYNTHETIC[:-1], *POINT, flag, **ENVIRONMENT)
    assert done.returncode in (2, 3)
    assert_nowhere({"stdout": done.stdout.encode(), "stderr": done.stderr.encode()})
