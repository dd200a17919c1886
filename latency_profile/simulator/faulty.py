"""What a fault does to an answer that is under way."""

import dataclasses
import time
from typing import Protocol

from latency_profile.simulator import faults
from latency_profile.simulator.answer import Answer
from latency_profile.simulator.connection import Reply
from latency_profile.simulator.faults import Fault
from latency_profile.simulator.protocols.base import LAST_CHUNK, Ask


class Desk(Protocol):
    """What the server does for an answer."""

    def advance(self, answer: Answer, due_ns: int, count: int) -> None:
        """Writes what is to be written after `count` more tokens."""

    def written(self, answer: Answer, due_ns: int, tokens: int) -> int:
        """Notes that so many tokens are about to be written."""

    def complete(self, answer: Answer, written_ns: int) -> None:
        """Notes that an answer has all that it will have."""

    def fail(self, answer: Answer) -> None:
        """Notes that an answer was broken off."""

    def send(self, answer: Answer, data: bytes) -> None:
        """Writes a part of a stream, after its head where that is still to come."""

    def end(self, answer: Answer) -> None:
        """Ends an answer's exchange."""

    def later(self, answer: Answer, delay_ns: int) -> None:
        """Calls `advance` for everything that is held back after this time, unless the answer is gone by then."""


def bent(ask: Ask, fault: Fault) -> Ask:
    """The request as the writer is to see it, so that its answer has the fault."""
    match fault.kind:
        case "usage_off":
            return dataclasses.replace(ask, usage_error=ask.usage_error + 1)
        case "empty":
            return dataclasses.replace(ask, output_tokens=0, stopped=False)
        case "no_end" if ask.stream:
            return dataclasses.replace(ask, output_tokens=ask.output_tokens + 1)  # a stream whose last never comes
        case "no_end":
            return dataclasses.replace(ask, unfinished=True)
    return ask


def advance(desk: Desk, answer: Answer, due_ns: int, count: int) -> None:
    """In place of the server's own step, for an answer whose fault is still to come."""
    assert answer.fault is not None
    kind = answer.fault.kind
    total = answer.job.output_tokens
    produced = answer.produced + count
    if kind == "slow_header":
        if answer.ask.stream or produced == total:  # a whole answer's head comes with its end
            _hold(desk, answer, due_ns, count)
        else:
            desk.advance(answer, due_ns, count)
    elif kind == "empty":
        _empty(desk, answer, due_ns)
    elif answer.ask.stream:
        _stream(desk, answer, due_ns, count, total)
    elif produced == total:
        answer.produced = produced
        _whole(desk, answer, due_ns)
    else:
        desk.advance(answer, due_ns, count)


def _stream(desk: Desk, answer: Answer, due_ns: int, count: int, total: int) -> None:
    assert answer.fault is not None
    kind = answer.fault.kind
    produced = answer.produced + count
    if kind == "no_end":
        _endless(desk, answer, due_ns, count, total)
        return
    if 2 * produced < total:
        if kind == "half_first":
            answer.produced = produced
        else:
            desk.advance(answer, due_ns, count)
        return
    if kind == "half_first":
        answer.fault = None
        desk.advance(answer, due_ns, count)
        return
    if kind in ("malformed", "not_utf8"):
        answer.fault = None
        _mangled(desk, answer, due_ns, count, kind)
        return
    part = total // 2 - answer.sent  # the stream breaks behind half of its tokens
    data = b""
    if part > 0:
        data = answer.writer.framed(answer.writer.events(answer.sent, part, False), False)
        desk.written(answer, due_ns, part)
    desk.send(answer, data)
    if kind == "stall":
        _hold(desk, answer, due_ns, count)
    elif kind == "error_event":
        desk.fail(answer)
        desk.send(answer, answer.writer.framed(answer.writer.failure(faults.FAILURE), True))
        desk.end(answer)
    else:
        _break(desk, answer, kind)


def _whole(desk: Desk, answer: Answer, due_ns: int) -> None:
    assert answer.fault is not None
    reply = answer.writer.whole()
    match answer.fault.kind:
        case "error_event":
            desk.fail(answer)
            error = b"".join(answer.writer.failure(faults.FAILURE))
            answer.exchange.reply(Reply(200, _without_frame(error), fields=reply.fields))
            return
        case "malformed":
            reply = dataclasses.replace(reply, body=faults.broken_json(reply.body))
        case "not_utf8":
            body = faults.not_utf8(reply.body, answer.writer.text(0, answer.job.output_tokens))
            reply = dataclasses.replace(reply, body=body)
        case "reset" | "truncate" | "stall":
            message = answer.exchange.message(reply)
            half = len(message) - len(reply.body) // 2 - 1
            answer.exchange.write(message[:half])
            if answer.fault.kind == "stall":
                _hold(desk, answer, due_ns, 0, message[half:])
            else:
                _break(desk, answer, answer.fault.kind)
            return
    desk.complete(answer, desk.written(answer, due_ns, answer.produced))
    answer.exchange.reply(reply)


def _without_frame(event: bytes) -> bytes:
    """The JSON of the first event."""
    return event.partition(b"\n\n")[0].removeprefix(b"data:").strip()


def _empty(desk: Desk, answer: Answer, due_ns: int) -> None:
    data = answer.writer.event(0, 0) if answer.ask.stream else b""
    desk.complete(answer, time.monotonic_ns())
    if answer.ask.stream:
        desk.send(answer, data)
        desk.end(answer)
    else:
        answer.exchange.reply(answer.writer.whole())


def _endless(desk: Desk, answer: Answer, due_ns: int, count: int, total: int) -> None:
    answer.produced += count
    data = answer.writer.event(answer.sent, answer.produced - answer.sent)
    written_ns = desk.written(answer, due_ns, answer.produced - answer.sent)
    desk.send(answer, data)
    if answer.produced == total:
        desk.complete(answer, written_ns)
        desk.send(answer, LAST_CHUNK)
        desk.end(answer)


def _mangled(desk: Desk, answer: Answer, due_ns: int, count: int, kind: str) -> None:
    writer = answer.writer
    answer.produced += count
    pending = answer.produced - answer.sent
    last = answer.produced == answer.job.output_tokens
    text = writer.text(answer.sent, pending)
    events = list(writer.events(answer.sent, pending, last))
    place = next((k for k, event in enumerate(events) if text and text in event), 0)
    events[place] = faults.broken_json(events[place]) if kind == "malformed" else faults.not_utf8(events[place], text)
    written_ns = desk.written(answer, due_ns, pending)
    desk.send(answer, writer.framed(events, last))
    if last:
        desk.complete(answer, written_ns)
        desk.end(answer)


def _hold(desk: Desk, answer: Answer, due_ns: int, count: int, rest: bytes = b"") -> None:
    """Keeps everything back from now on: for the fault's length, or for ever."""
    assert answer.fault is not None
    answer.held = [(due_ns, count)]
    answer.rest = rest
    if answer.fault.length_ns is not None:
        desk.later(answer, answer.fault.length_ns)


def _break(desk: Desk, answer: Answer, kind: str) -> None:
    desk.fail(answer)
    if kind == "reset":
        answer.exchange.reset()
    else:
        answer.exchange.close()
