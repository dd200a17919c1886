"""A sender process: `python -m latency_profile.sender`. Commands come on standard input, reports go to standard output.

It ends when its standard input does, so none outlives its parent. Ctrl-C reaches the whole process group: the parent
decides what it means, and says so here.
"""

import gc
import os
import resource
import signal
import sys

import msgspec

from latency_profile.sender.job import Beat, Collect, Command, Drain, Point, Report, Start, Stop

# Python looks for cycles when there are so many objects more than at the last look. While answers are read, each event
# makes a few, which are gone with their answer: to look at them often is in vain. Not to look at all would keep the
# cycles that an exception makes with its frames, one for each answer that cannot be read.
_OFTEN = gc.get_threshold()
_OBJECTS_OF_A_LONG_ANSWER = 1 << 17

_commands = msgspec.json.Decoder(Command)


class Worker:
    """Reads commands and obeys. While a point runs, they are looked at by its loop."""

    def __init__(self) -> None:
        self._pending = b""

    def next_command(self) -> Command | None:
        """The next command; None when the parent has gone. Blocks."""
        while not self.has_command:
            data = os.read(0, 1 << 16)
            if not data:
                return None
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        command: Command = _commands.decode(line)
        return command

    @property
    def has_command(self) -> bool:
        return b"\n" in self._pending

    def run(self) -> None:
        while (command := self.next_command()) is not None:
            match command:
                case Point():
                    self._point(command)
                case Collect():
                    from latency_profile.sender.collect import collect

                    gc.set_threshold(_OBJECTS_OF_A_LONG_ANSWER)
                    try:
                        _report(collect(command))
                    finally:
                        gc.set_threshold(*_OFTEN)
                case Start() | Stop() | Drain():
                    pass  # the point that it was meant for is over

    def _point(self, point: Point) -> None:
        from latency_profile.sender.loop import Loop

        start: Start | None = None

        def on_control() -> None:
            nonlocal start
            while True:
                command = self.next_command()
                if isinstance(command, Start):
                    start = command
                elif isinstance(command, Drain):
                    loop.drain()
                else:  # Stop, or the parent has gone
                    loop.stop()
                if not self.has_command:  # epoll speaks only of bytes that are not read yet
                    return

        loop = Loop(point, 0, on_control, _report)
        _report(loop.prepare())
        while start is None and not loop.stopping:
            on_control()
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection is a pause, and the loop makes no cycles
        try:
            _report(loop.run(start.at_ns if start else 0))
        finally:
            gc.enable()
            gc.unfreeze()  # this point's own things, or they would stay for ever


def _report(report: Report | Beat) -> None:
    data = msgspec.json.encode(report) + b"\n"
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        Worker().run()
    except BrokenPipeError:
        sys.exit(1)


main()
