"""What the embedded model server costs a token, and how late it writes: `python benchmarks/simulator_capacity.py`.

Starts the simulator, offers it streaming requests at Poisson times over kept-alive connections, reads the answers
without looking at them, and holds the server's own log against its schedule. CPU is the server's alone (user and
system, from /proc), over the load; lateness is written - scheduled of every event.
"""

import argparse
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latency_profile.simulator.log import read_log

_END = b"0\r\n\r\n"
_MODES = {
    "fixed timing": ["--fixed-timing", "20,10"],
    "fixed timing, jitter": ["--fixed-timing", "20,10,0.5"],
    "engine instant": ["--engine", "instant"],
    "engine h100-8b": ["--engine", "h100-8b"],
}


@dataclass
class Load:
    """One open-loop load over a pool of connections. The client's lateness is kept: a late client offers less."""

    port: int
    rate: float
    seconds: float
    tokens: int
    words: int
    lateness_ns: list[int] = field(default_factory=list)
    sent: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        self._poll = select.epoll()
        self._idle: list[socket.socket] = []
        self._busy: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}

    def run(self) -> None:
        draw = random.Random(1)
        start_ns = time.monotonic_ns()
        due_ns = start_ns
        while self.ended < self.sent or due_ns < start_ns + self.seconds * 1e9:
            now_ns = time.monotonic_ns()
            while due_ns <= now_ns and due_ns < start_ns + self.seconds * 1e9:
                self.lateness_ns.append(now_ns - due_ns)
                self._send()
                due_ns += round(draw.expovariate(self.rate) * 1e9)
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            for descriptor, _ in self._poll.poll(max(0.0, min(wait_s, 0.1))):
                self._read(self._busy[descriptor])

    def _send(self) -> None:
        prompt = f"{self.sent} " + " word" * (self.words - 1)
        body = {"prompt": prompt, "max_tokens": self.tokens, "stream": True, "ignore_eos": True}
        text = json.dumps(body).encode()
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = socket.create_connection(("127.0.0.1", self.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(connection, select.EPOLLIN)
        self._busy[connection.fileno()] = connection
        self._tails[connection.fileno()] = b""
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)
        )
        self.sent += 1

    def _read(self, connection: socket.socket) -> None:
        data = connection.recv(262_144)
        number = connection.fileno()
        tail = (self._tails[number] + data)[-len(_END) :]
        self._tails[number] = tail
        if not data:
            raise SystemExit("the simulator closed a connection")
        if tail == _END:
            self.ended += 1
            self._idle.append(self._busy.pop(number))
            self._busy[number] = connection


def cpu_seconds(process: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, flags: list[str], options: argparse.Namespace, folder: Path) -> str:
    """One row of the table."""
    log = folder / "log.npz"
    command = [sys.executable, "-m", "latency_profile.simulator", "--log", str(log), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        Load(port, 20, 1, 10, options.prompt_words).run()  # everything has run once
        load = Load(port, options.rate, options.seconds, options.tokens, options.prompt_words)
        before = cpu_seconds(server.pid)
        load.run()
        cpu = cpu_seconds(server.pid) - before
        server.send_signal(signal.SIGTERM)
    truth = read_log(log)
    first = truth.event_start[len(truth) - load.sent]
    late_ms = (truth.written_ns - truth.scheduled_ns)[first:] / 1e6
    tokens = int(truth.event_tokens[first:].sum())
    p50, p99, p999 = np.percentile(late_ms, (50, 99, 99.9))
    client = np.percentile(load.lateness_ns, 99) / 1e6
    return (
        f"| {name} | {tokens:,} | {cpu / tokens * 1e6:.1f} | {cpu / tokens * options.rate * options.tokens:.0%} "
        f"| {p50:.3f} / {p99:.3f} / {p999:.3f} / {late_ms.max():.3f} | {client:.2f} |"
    )


def machine_pauses(seconds: float = 1.0) -> tuple[float, float]:
    """The longest time (ms) for which a loop that does nothing else was not run, and the share of such times over 1 ms.

    The control of this benchmark: lateness of this size is the machine's (other processes, the hypervisor).
    """
    last = start = time.monotonic_ns()
    pauses = [0.0]
    while last - start < seconds * 1e9:
        now = time.monotonic_ns()
        if now - last > 1_000_000:
            pauses.append((now - last) / 1e6)
        last = now
    return max(pauses), sum(pauses) / seconds / 1e3


def main() -> None:
    """Prints the table."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--rate", type=float, default=200, help="requests/s")
    flags.add_argument("--tokens", type=int, default=100, help="output tokens a request")
    flags.add_argument("--prompt-words", type=int, default=32)
    flags.add_argument("--seconds", type=float, default=10)
    flags.add_argument("--mode", choices=_MODES, action="append")
    options = flags.parse_args()
    longest, share = machine_pauses()
    print(f"control: an idle loop was paused for up to {longest:.1f} ms, {share:.1%} of the time by more than 1 ms")
    print(f"offered: {options.rate:g} requests/s of {options.tokens} tokens\n")
    print("| mode | tokens | CPU µs/token | of a core | late p50 / p99 / p99.9 / max ms | client p99 ms |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.mode or _MODES:
            print(measure(name, _MODES[name], options, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
