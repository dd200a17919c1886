"""`python -m latency_profile.engines.child IN OUT`: loads one engine and generates batches until its orders end.

They come from the descriptor IN, and answers go to OUT, as engines print what they like to their standard output.
"""

import os
import sys
import traceback
from importlib import import_module
from typing import Protocol, TextIO

from latency_profile.engines.exchange import Batch, EngineRefusal, Failed, Load, Ran, Ready, Refused, read


class Engine(Protocol):
    """What every engine's module makes with its `load(Load)`."""

    ready: Ready

    def run(self, batch: Batch) -> Ran:
        """Generates greedily, exactly as many tokens as asked for. Only this call is timed."""


def main() -> int:
    said, reply = map(int, sys.argv[1:])
    for descriptor in (said, reply):
        os.set_inheritable(descriptor, False)  # what the engine starts must not hold them open
    with os.fdopen(said, encoding="utf-8") as orders, os.fdopen(reply, "w", encoding="utf-8") as replies:
        return _serve(orders, replies)


def _serve(orders: TextIO, replies: TextIO) -> int:
    line = orders.readline()
    if not line:  # the parent has gone already
        return 0
    try:
        wanted = read(line, Load)
        engine: Engine = import_module(f"latency_profile.engines.child.{wanted.engine}_engine").load(wanted)
        _say(replies, engine.ready)
        for line in orders:
            _say(replies, engine.run(read(line, Batch)))
    except EngineRefusal as refusal:
        _say(replies, Refused(str(refusal)))
    except Exception as error:
        traceback.print_exc()
        _say(replies, Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
        return 1
    return 0


def _say(replies: TextIO, message: Ready | Ran | Refused | Failed) -> None:
    replies.write(message.line())
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
