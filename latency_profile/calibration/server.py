"""A lean server of known timing: `python -m latency_profile.calibration.server`. It is what a client is measured
against, so it must cost less than any client: answers are encoded beforehand, a request is not parsed, and sending a
token is one system call.

It never waits awake. Where it is late, its log says so: the truth about a token is the time of its write, not its plan.
"""

import argparse
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from heapq import heappop, heappush, heapreplace
from pathlib import Path

from latency_profile.calibration.encoded import MODEL, Encoder, Events, Form, asked, whole
from latency_profile.calibration.timeline import Jittered, Queued, Scheduled, Timelines
from latency_profile.sender.clock import clock_pair, now_ns
from latency_profile.sender.stamps import CONTROL_ROOM, ask_for_stamps, kernel_ns
from latency_profile.simulator.log import Finish, LogWriter
from latency_profile.simulator.slots import SlotProfile

_MS = 1_000_000
_BACKLOG = 4096
_LARGEST_READ = 1 << 18
LOOK_NS = 500_000  # requests are read this often while tokens are due: they carry the kernel's stamps, and can wait
_IDLE_S = 0.2  # with nothing to do it looks this often whether it is to stop
_WAKING_NS = 50_000  # a sleep lasts so much longer than it should
_REST_NS = 150_000  # events that are due so close to each other go together: to wake for each would cost most of a core
_PLACE_BITS = 20
_PLACE = (1 << _PLACE_BITS) - 1
_SMALL = {  # paths of GET
    b"/v1/models": b'{"object":"list","data":[{"id":"%s","object":"model"}]}' % MODEL.encode(),
    b"/health": b"{}",
    b"/version": b'{"version":"0"}',
}


class _Client:
    """One connection."""

    __slots__ = ("arrived_ns", "fd", "received", "socket", "unsent")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.fd = connection.fileno()
        self.received = b""
        self.arrived_ns = 0  # of its last bytes
        self.unsent = b""  # what its socket did not take


class _Answer:
    """One answer on its way: `events[k]` goes at `due_ns[k]`, and what became of it is noted."""

    __slots__ = ("client", "due_ns", "events", "row", "started_ns", "written_ns", "wrote_ns")

    def __init__(self, client: _Client, row: int, started_ns: int, due_ns: list[int], events: Events) -> None:
        self.client, self.row, self.started_ns, self.due_ns, self.events = client, row, started_ns, due_ns, events
        self.written_ns: list[int] = []
        self.wrote_ns: list[int] = []


class Server:
    """Serves until `stop` is called. Raises OSError where it cannot listen."""

    def __init__(self, port: int, timelines: Timelines, log: LogWriter, until_eof: int | None = None) -> None:
        """until_eof: a file descriptor at whose end it stops."""
        self._timelines = timelines
        self._log = log
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._until_eof = until_eof
        if until_eof is not None:
            self._epoll.register(until_eof, select.EPOLLIN)
        self._clients: dict[int, _Client] = {}
        self._encoders: dict[Form, Encoder] = {}
        self._answers: list[_Answer | None] = []  # on their way, each at a place of its own
        self._free: list[int] = []  # places
        self._due: list[int] = []  # a heap, one entry an answer: when its next event is due, above its place
        self._offset_ns = 0  # realtime - monotonic
        self._stopping = False

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        due = self._due
        next_look = 0
        while not self._stopping:
            now = now_ns()
            if not due:
                self._look(_IDLE_S)
            elif now >= next_look:
                next_look = now + LOOK_NS
                self._look(0)
            elif due[0] >> _PLACE_BITS <= now:
                self._send_due(now, next_look)
            else:
                time.sleep(max(min(due[0] >> _PLACE_BITS, next_look) - now - _WAKING_NS, _REST_NS) / 1e9)
        for key in due:
            self._end(key & _PLACE, Finish.ABORT)

    # -- what comes ---------------------------------------------------------------------------------------------------

    def _look(self, timeout: float) -> None:
        realtime, monotonic = clock_pair()
        self._offset_ns = realtime - monotonic
        spoke = []
        for fd, mask in self._epoll.poll(timeout):
            if (client := self._clients.get(fd)) is None:
                if fd == self._until_eof:
                    self._stopping = not os.read(fd, 1 << 10)
                else:
                    self._accept()
            elif mask & select.EPOLLOUT:
                self._flush(client)
            elif self._receive(client):
                spoke.append(client)
        for client in sorted(spoke, key=lambda one: one.arrived_ns):  # a queue must be joined in order of arrival
            while self._take(client):
                pass

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_for_stamps(connection)
            self._clients[connection.fileno()] = _Client(connection)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, client: _Client) -> bool:
        """Whether it sent something."""
        try:
            data, control, _, _ = client.socket.recvmsg(_LARGEST_READ, CONTROL_ROOM)
        except BlockingIOError:
            return False
        except OSError:
            data, control = b"", []
        if not data:
            self._gone(client)
            return False
        stamp = kernel_ns(control)
        client.arrived_ns = stamp - self._offset_ns if stamp else now_ns()
        client.received += data
        return True

    def _take(self, client: _Client) -> bool:
        """One whole request of what has been received; False where there is none."""
        head, blank, rest = client.received.partition(b"\r\n\r\n")
        if not blank:
            return False
        method, _, path = head.partition(b"\r\n")[0].rpartition(b" ")[0].partition(b" ")
        fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return False
        body, client.received = rest[:length], rest[length:]
        if method == b"POST" and path.endswith(b"/completions"):
            self._begin(client, path, fields.get(b"x-request-id", b"").strip().decode("latin-1"), body)
        elif path in _SMALL:
            self._write(client, whole(_SMALL[path]))
        else:
            self._write(client, whole(b"{}", status=b"404 Not Found"))
        return True

    def _begin(self, client: _Client, path: bytes, request_id: str, body: bytes) -> None:
        form, wanted = asked(path, body)
        encoder = self._encoders.get(form)
        if encoder is None:
            encoder = self._encoders[form] = Encoder(form)
        offsets, tokens, waits_ns = self._timelines.next(request_id, wanted, client.arrived_ns)
        if not form.stream:
            offsets, tokens = offsets[-1:], tokens[-1:]
        row = self._log.begin(request_id, client.arrived_ns, 0)
        due: list[int] = (offsets + client.arrived_ns).tolist()
        if not self._free:
            self._free.append(len(self._answers))
            self._answers.append(None)
        place = self._free.pop()
        self._answers[place] = _Answer(client, row, client.arrived_ns + waits_ns, due, encoder.events(tokens))
        heappush(self._due, due[0] << _PLACE_BITS | place)

    # -- what goes ----------------------------------------------------------------------------------------------------

    def _send_due(self, now: int, until: int) -> None:
        """Sends what is due, until it is time to look again. This is all that costs: every event comes by here."""
        due, answers, write = self._due, self._answers, self._write
        while due and (key := due[0]) >> _PLACE_BITS <= now < until:
            place = key & _PLACE
            answer = answers[place]
            assert answer is not None
            number = len(answer.wrote_ns)
            data = answer.events.data[number]
            answer.written_ns.append(now_ns())
            alive = write(answer.client, data)
            now = now_ns()
            answer.wrote_ns.append(now)
            number += 1
            if alive and number < len(answer.due_ns):
                heapreplace(due, answer.due_ns[number] << _PLACE_BITS | place)
            else:
                heappop(due)
                self._end(place, Finish.LENGTH if alive else Finish.ABORT)

    def _end(self, place: int, finish: Finish) -> None:
        answer = self._answers[place]
        assert answer is not None
        self._answers[place] = None
        self._free.append(place)
        written = len(answer.wrote_ns)
        carried = answer.events.carried[:written]
        self._log.events(answer.row, answer.due_ns[:written], answer.written_ns, carried, answer.wrote_ns)
        ended = answer.written_ns[-1] if written else now_ns()
        self._log.end(answer.row, ended, answer.started_ns, sum(carried), finish)

    def _write(self, client: _Client, data: bytes) -> bool:
        """Sends at once what the socket takes, and the rest when it takes more. False where nobody is there to read."""
        if client.unsent:
            client.unsent += data
            return True
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone(client)
            return False
        if sent < len(data):
            client.unsent = data[sent:]
            self._epoll.modify(client.fd, select.EPOLLIN | select.EPOLLOUT)
        return True

    def _flush(self, client: _Client) -> None:
        data, client.unsent = client.unsent, b""
        self._epoll.modify(client.fd, select.EPOLLIN)
        self._write(client, data)

    def _gone(self, client: _Client) -> None:
        """Whatever is still to be sent to it will find its socket closed."""
        if self._clients.get(client.fd) is client:
            del self._clients[client.fd]
            client.unsent = b""
            client.socket.close()  # which also takes it out of epoll


def _parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="python -m latency_profile.calibration.server", description=__doc__)
    flags.add_argument("--port", type=int, default=0, help="0 takes a free one")
    flags.add_argument("--ttft-ms", type=float, default=50.0)
    flags.add_argument("--itl-ms", type=float, default=10.0)
    flags.add_argument("--jitter", type=float, default=0.2, help="share of each length, 0 to 1")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--schedule", type=Path, metavar="FILE", help="in place of these: when each event is due")
    flags.add_argument(
        "--slot-ms", type=float, metavar="MS", help="in place of these: a queue before slots, each taken so long"
    )
    flags.add_argument("--slots", type=int, default=1, help="how many (with --slot-ms)")
    flags.add_argument("--service", choices=("fixed", "exponential"), default="fixed", help="(with --slot-ms)")
    flags.add_argument("--until-eof", action="store_true", help="end with the standard input too")
    flags.add_argument("--log", type=Path, metavar="FILE", help="write the truth log here at the end")
    return flags


def _timelines(flags: argparse.Namespace) -> Timelines:
    if flags.schedule:
        return Scheduled(flags.schedule)
    if flags.slot_ms is not None:
        return Queued(SlotProfile(round(flags.slot_ms * _MS), flags.slots, flags.service), flags.seed)
    return Jittered(round(flags.ttft_ms * _MS), round(flags.itl_ms * _MS), flags.jitter, flags.seed)


def main() -> int:
    """Serves until SIGTERM or SIGINT, then writes the log."""
    parser = _parser()
    flags = parser.parse_args()
    try:
        timelines = _timelines(flags)
    except (OSError, KeyError, ValueError) as error:
        parser.error(f"--schedule: {error}")
    log = LogWriter()
    server = Server(flags.port, timelines, log, until_eof=0 if flags.until_eof else None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # a collection is a pause; what an answer made goes with it
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    server.run()
    if flags.log:
        log.save(flags.log)
    return 0


if __name__ == "__main__":
    sys.exit(main())
