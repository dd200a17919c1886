"""The server: puts requests into a timing model and writes what comes out of it, when it is due."""

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from latency_profile.simulator import vllm, vllm_answer
from latency_profile.simulator.blocks import hash_blocks
from latency_profile.simulator.connection import Connection, HttpRequest
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import NONE, Job, Timing
from latency_profile.simulator.log import Finish, LogWriter
from latency_profile.simulator.metrics import Metrics
from latency_profile.simulator.timer import Alarm

# The next wake-up comes no sooner than this after the last: at 20,000 separate tokens/s a wake-up for each would cost
# as much again as its token. Tokens that are further apart are not touched by it.
_BREATH_NS = 100_000
_ACCEPTS_AT_ONCE = 64
_METRICS_TYPE = b"text/plain; version=1.0.0; charset=utf-8"


@dataclass(slots=True, eq=False)
class _Answer:
    """One admitted request and how far its answer is."""

    connection: Connection
    job: Job
    ask: vllm.Ask
    name: str
    created: int
    row: int
    stream: vllm_answer.Stream | None
    produced: int = 0  # tokens that the timing model has given
    sent: int = 0  # tokens that were written
    first_ns: int = NONE  # due times of the first and of the latest tokens
    last_ns: int = NONE


@dataclass(slots=True)
class Server:
    """Implements `connection.Application`. Needs a running loop when it is made."""

    served: vllm.Served
    timing: Timing
    metrics: Metrics
    log: LogWriter | None
    engine: EngineProfile | None  # of the timing model, where it is an engine
    stream_interval: int = 1  # tokens an event, after the first one
    _answers: dict[Job, _Answer] = field(init=False, default_factory=dict)
    _active: dict[Connection, _Answer] = field(init=False, default_factory=dict)
    _connections: set[Connection] = field(init=False, default_factory=set)
    _repeats: Counter[int] = field(init=False, default_factory=Counter)
    _timer: Alarm = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer = Alarm(self._loop, self._due)

    def listen(self, listener: socket.socket) -> None:
        """Takes connections from a listening socket, from now on."""
        listener.setblocking(False)
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the client has gone again, or this process is out of files
                print(f"latency-profile simulate: cannot accept: {error.strerror}", file=sys.stderr)
                return
            self._connections.add(Connection(self, self._loop, client))

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        route = _ROUTES.get(request.path)
        if route is None:
            connection.reply(404, vllm_answer.NOT_FOUND)
        elif route[0] != request.method:
            connection.reply(405, vllm_answer.NOT_ALLOWED)
        else:
            route[1](self, connection, request)

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        answer = self._active.get(connection)
        if answer is not None:
            self.timing.cancel(answer.job)
            self._abort(answer)

    def stop(self) -> None:
        """Closes every connection; unfinished answers are aborted in the log."""
        self._timer.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for answer in list(self._answers.values()):
            self._abort(answer)
        for connection in list(self._connections):
            connection.close()

    # doors

    def _generate(self, connection: Connection, request: HttpRequest) -> None:
        try:
            ask = vllm.read(request.path, request.body, self.served)
        except vllm.Refusal as refusal:
            connection.reply(refusal.status, refusal.body)
            return
        job = self._job(ask, request.arrival_ns)
        name = vllm_answer.answer_id(ask, request.request_id)
        created = int(time.time())
        stream = vllm_answer.Stream(ask, name, created, self.served.vocabulary) if ask.stream else None
        row = NONE
        if self.log is not None:
            row = self.log.begin(request.request_id or name, request.arrival_ns, job.prompt_tokens)
        answer = _Answer(connection, job, ask, name, created, row, stream)
        self._answers[job] = self._active[connection] = answer
        self.timing.admit(job)
        self._timer.set(self.timing.next_due())
        if stream is not None:
            connection.begin_stream()

    def _models(self, connection: Connection, _: HttpRequest) -> None:
        connection.reply(200, vllm_answer.models_body(self.served.models, self.served.max_model_len))

    def _health(self, connection: Connection, _: HttpRequest) -> None:
        connection.reply(200, b"")

    def _version(self, connection: Connection, _: HttpRequest) -> None:
        connection.reply(200, vllm_answer.VERSION_BODY)

    def _metrics(self, connection: Connection, _: HttpRequest) -> None:
        connection.reply(200, self.metrics.render(self.timing.stats()), _METRICS_TYPE)

    # the way of an answer

    def _job(self, ask: vllm.Ask, arrival_ns: int) -> Job:
        repeat = self._repeats[ask.key]  # the same prompt again: the same text, other jitter
        self._repeats[ask.key] += 1
        hashes: list[int] = []
        if self.engine is not None and self.engine.prefix_caching:
            hashes = hash_blocks(ask.prompt_ids, self.engine.block_size)
        return Job(arrival_ns, len(ask.prompt_ids), ask.output_tokens, ask.key ^ repeat << 32, hashes)

    def _due(self) -> None:
        answers = self._answers
        for job, due_ns, count in self.timing.run(time.monotonic_ns()):
            answer = answers.get(job)
            if answer is not None:  # it is gone if its client closed while earlier tokens of this batch were written
                self._deliver(answer, due_ns, count)
        next_ns = self.timing.next_due()
        self._timer.set(next_ns and max(next_ns, time.monotonic_ns() + _BREATH_NS))

    def _deliver(self, answer: _Answer, due_ns: int, count: int) -> None:
        if answer.produced:
            self.metrics.next(due_ns - answer.last_ns, count)
        else:
            answer.first_ns = due_ns
            self.metrics.first(answer.job, due_ns, count)
        answer.last_ns = due_ns
        answer.produced += count
        last = answer.produced == answer.ask.output_tokens
        pending = answer.produced - answer.sent
        if answer.stream is not None:
            if pending < self.stream_interval and answer.sent and not last:
                return
            chunk = answer.stream.event(answer.sent, pending)
            written_ns = self._written(answer, due_ns, pending)
            answer.connection.write(chunk)
        elif last:
            body = vllm_answer.whole(answer.ask, answer.name, answer.created, self.served.vocabulary)
            written_ns = self._written(answer, due_ns, pending)
        if last:
            self._finish(answer, written_ns)
            if answer.stream is None:
                answer.connection.reply(200, body)
            else:
                answer.connection.end()

    def _written(self, answer: _Answer, due_ns: int, tokens: int) -> int:
        answer.sent += tokens
        written_ns = time.monotonic_ns()
        if self.log is not None:
            self.log.event(answer.row, due_ns, written_ns, tokens)
        return written_ns

    def _finish(self, answer: _Answer, written_ns: int) -> None:
        finish = Finish.STOP if answer.ask.stopped else Finish.LENGTH
        self.metrics.finish(answer.job, answer.first_ns, answer.last_ns, answer.ask.max_tokens, finish)
        self._forget(answer, written_ns, finish)

    def _abort(self, answer: _Answer) -> None:
        self.metrics.abort()
        self._forget(answer, time.monotonic_ns(), Finish.ABORT)

    def _forget(self, answer: _Answer, end_ns: int, finish: Finish) -> None:
        del self._answers[answer.job], self._active[answer.connection]
        if self.log is not None:
            self.log.end(answer.row, end_ns, answer.job.started_ns, answer.sent, finish)


_ROUTES: dict[str, tuple[str, Callable[[Server, Connection, HttpRequest], None]]] = {
    vllm.COMPLETIONS: ("POST", Server._generate),
    vllm.CHAT: ("POST", Server._generate),
    "/v1/models": ("GET", Server._models),
    "/health": ("GET", Server._health),
    "/ping": ("GET", Server._health),
    "/version": ("GET", Server._version),
    "/metrics": ("GET", Server._metrics),
}
