"""The server: puts requests into a timing model and writes what comes out of it, when it is due."""

import asyncio
import dataclasses
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from latency_profile.simulator import faults, faulty
from latency_profile.simulator.answer import Answer
from latency_profile.simulator.blocks import hash_blocks
from latency_profile.simulator.connection import Closeable, Exchange, HttpRequest
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.faults import Fault, FaultPlan
from latency_profile.simulator.job import NONE, Job, Timing
from latency_profile.simulator.log import Finish, LogWriter
from latency_profile.simulator.protocols.base import Ask, Refusal, ServerProtocol
from latency_profile.simulator.timer import Alarm

# The next wake-up comes no sooner than this after the last: at 20,000 separate tokens/s a wake-up for each would cost
# as much again as its token. Tokens that are further apart are not touched by it.
_BREATH_NS = 100_000
_ACCEPTS_AT_ONCE = 64


@dataclass(slots=True)
class Server:
    """Implements `connection.Application` and `faulty.Desk`. Needs a running loop when it is made."""

    protocol: ServerProtocol
    timing: Timing
    log: LogWriter | None
    engine: EngineProfile | None  # of the timing model, where it is an engine
    plan: FaultPlan
    stream_interval: int = 1  # tokens an event, after the first one
    usage_off_by: int = 0  # by how much every count of output tokens that is told is wrong
    _answers: dict[Job, Answer] = field(init=False, default_factory=dict)
    _active: dict[Exchange, Answer] = field(init=False, default_factory=dict)
    _connections: set[Closeable] = field(init=False, default_factory=set)
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
            self._connections.add(self.protocol.connect(self, self._loop, client))

    def handle(self, exchange: Exchange, request: HttpRequest) -> None:
        if request.method == "POST" and self.protocol.generates(request.path):
            self._generate(exchange, request)
        elif request.method == "POST" and request.path == self.protocol.reset_path:
            exchange.reply(self.protocol.reset_reply(self.timing.reset_cache()))
        else:
            exchange.reply(self.protocol.door(request.method, request.path, self.timing.stats()))

    def lost(self, exchange: Exchange) -> None:
        answer = self._active.get(exchange)
        if answer is not None:
            self.timing.cancel(answer.job)
            self._break(answer, Finish.ABORT)

    def closed(self, connection: Closeable) -> None:
        self._connections.discard(connection)

    def stop(self) -> None:
        """Closes every connection; unfinished answers are aborted in the log."""
        self._timer.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for answer in list(self._answers.values()):
            self._break(answer, Finish.ABORT)
        for connection in list(self._connections):
            connection.close()

    # the way of an answer

    def _generate(self, exchange: Exchange, request: HttpRequest) -> None:
        try:
            ask = self.protocol.read(request.path, request.body)
        except Refusal as refusal:
            exchange.reply(refusal.reply)
            return
        if self.usage_off_by:
            ask = dataclasses.replace(ask, usage_error=self.usage_off_by)
        repeat = self._repeats[ask.key]  # the same prompt again: the same text, other jitter
        self._repeats[ask.key] += 1
        fault = self.plan.draw(ask.key, repeat)
        if fault is not None and not self.protocol.shows(fault.kind, ask):
            fault = None
        job = self._job(ask, request.arrival_ns, repeat)
        if fault is not None:
            if fault.kind == "empty":
                job.output_tokens = 1  # there is nothing to wait for after the first
            ask = faulty.bent(ask, fault)
        writer = self.protocol.writer(ask, job, request.request_id)
        row = NONE
        if self.log is not None:
            name = request.request_id or writer.name
            row = self.log.begin(name, request.arrival_ns, job.prompt_tokens, fault.kind if fault else "")
        if fault is not None and fault.refuses:
            self._refuse(exchange, ask, fault, row)
            return
        # A usage that is off is all in the writer's hands.
        left = fault if fault is not None and fault.kind != "usage_off" else None
        answer = Answer(exchange, job, ask, writer, row, left)
        self._answers[job] = self._active[exchange] = answer
        self.timing.admit(job)
        self._timer.set(self.timing.next_due())
        if ask.stream and not writer.late_head:
            if left is not None and left.kind == "slow_header" and left.length_ns is not None:
                answer.held = []
                self.later(answer, left.length_ns)
            else:
                self.send(answer, b"")

    def _refuse(self, exchange: Exchange, ask: Ask, fault: Fault, row: int) -> None:
        if self.log is not None:
            self.log.end(row, time.monotonic_ns(), NONE, 0, Finish.ERROR)
        self.protocol.meter.broken(Finish.ERROR)
        if fault.kind == "disconnect":
            exchange.close()
        elif fault.kind == "redirect":
            exchange.reply(faults.redirect(ask.door))
        elif fault.kind == "502":
            exchange.reply(faults.gateway())
        else:
            exchange.reply(self.protocol.refusal(int(fault.kind), faults.message(int(fault.kind)), ask))

    def _job(self, ask: Ask, arrival_ns: int, repeat: int) -> Job:
        # Servers that take any prompt have to cut it somewhere, too.
        prompt_ids = ask.prompt_ids[-max(1, self.protocol.served.max_model_len - ask.output_tokens) :]
        hashes: list[int] = []
        if self.engine is not None and self.engine.prefix_caching:
            hashes = hash_blocks(prompt_ids, self.engine.block_size)
        return Job(arrival_ns, len(prompt_ids), ask.output_tokens, ask.key ^ repeat << 32, hashes)

    def _due(self) -> None:
        answers = self._answers
        for job, due_ns, count in self.timing.run(time.monotonic_ns()):
            answer = answers.get(job)
            if answer is not None:  # it is gone if its client closed while earlier tokens of this batch were written
                self._deliver(answer, due_ns, count)
        next_ns = self.timing.next_due()
        self._timer.set(next_ns and max(next_ns, time.monotonic_ns() + _BREATH_NS))

    def _deliver(self, answer: Answer, due_ns: int, count: int) -> None:
        job = answer.job
        if job.first_ns == NONE:
            job.first_ns = due_ns
            self.protocol.meter.first(job, due_ns, count)
        else:
            self.protocol.meter.next(due_ns - job.last_ns, count)
        job.last_ns = due_ns
        if answer.fault is None:
            self.advance(answer, due_ns, count)
        elif answer.held is not None:
            answer.held.append((due_ns, count))
        else:
            faulty.advance(self, answer, due_ns, count)

    def advance(self, answer: Answer, due_ns: int, count: int) -> None:
        """Writes what is to be written after `count` more tokens."""
        answer.produced += count
        last = answer.produced == answer.job.output_tokens
        pending = answer.produced - answer.sent
        if answer.ask.stream:
            if pending < self.stream_interval and answer.sent and not last:
                return
            chunk = answer.writer.event(answer.sent, pending)
            written_ns = self.written(answer, due_ns, pending)
            if answer.head:
                answer.exchange.write(chunk)
            else:
                self.send(answer, chunk)
            if last:
                self._finish(answer, written_ns)
                self.end(answer)
        elif last:
            reply = answer.writer.whole()
            self._finish(answer, self.written(answer, due_ns, pending))
            answer.exchange.reply(reply)

    def send(self, answer: Answer, data: bytes) -> None:
        """Writes a part of a stream, after its head where that is still to come."""
        if not answer.head:
            answer.head = True
            answer.exchange.begin_stream(answer.writer.head())
        if data:
            answer.exchange.write(data)

    def end(self, answer: Answer) -> None:
        """Ends an answer's exchange."""
        answer.exchange.end(answer.writer.closes)

    def written(self, answer: Answer, due_ns: int, tokens: int) -> int:
        """Notes that so many tokens are about to be written."""
        answer.sent += tokens
        written_ns = time.monotonic_ns()
        if self.log is not None:
            self.log.event(answer.row, due_ns, written_ns, tokens)
        return written_ns

    # for faults

    def later(self, answer: Answer, delay_ns: int) -> None:
        """Gives free what is held back after this time, unless the answer is gone by then."""
        self._loop.call_later(delay_ns / 1e9, self._release, answer)

    def _release(self, answer: Answer) -> None:
        if answer.job not in self._answers:
            return
        held, answer.held, answer.fault = answer.held or [], None, None
        if answer.rest:
            self._finish(answer, self.written(answer, held[0][0], answer.produced))
            answer.exchange.write(answer.rest)
            answer.exchange.end()
            return
        if answer.ask.stream:
            self.send(answer, b"")
        for due_ns, count in held:
            if answer.job in self._answers:
                self.advance(answer, due_ns, count)

    def complete(self, answer: Answer, written_ns: int) -> None:
        """Notes that an answer has all that it will have."""
        self.timing.cancel(answer.job)
        self._finish(answer, written_ns)

    def fail(self, answer: Answer) -> None:
        """Notes that an answer was broken off."""
        self.timing.cancel(answer.job)
        self._break(answer, Finish.ERROR)

    # its end

    def _finish(self, answer: Answer, written_ns: int) -> None:
        finish = Finish.STOP if answer.ask.stopped else Finish.LENGTH
        if self._forget(answer, written_ns, finish):
            self.protocol.meter.finish(answer.job, answer.ask.max_tokens, finish)

    def _break(self, answer: Answer, finish: Finish) -> None:
        if self._forget(answer, time.monotonic_ns(), finish):
            self.protocol.meter.broken(finish)

    def _forget(self, answer: Answer, end_ns: int, finish: Finish) -> bool:
        """False where its client went while its last bytes were written: its end is noted already."""
        if self._answers.pop(answer.job, None) is None:
            return False
        del self._active[answer.exchange]
        if self.log is not None:
            self.log.end(answer.row, end_ns, answer.job.started_ns, answer.sent, finish)
        return True
