"""The state machine of the spool, again and again: `python -m tests.fuzz.machine SECONDS`."""

import sys
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.test_spool_machine import SpoolMachine

if __name__ == "__main__":
    until = time.monotonic() + float(sys.argv[1])
    rounds = 0
    often = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    while time.monotonic() < until:
        run_state_machine_as_test(SpoolMachine, settings=often)
        rounds += 1
    print(f"Done {rounds * often.max_examples} runs of the machine")
