"""How often the nightly comparison cries wolf, and how often it finds a loss: `python -m benchmarks.compare`.

Simulates histories: a number a night, log-normal, 20 nights of base and 40 more. Without a loss every night that is
called regressed is a false alarm; with one, it is found where any of its first four nights is called regressed. "Of
first 20" and "of 16 after" count nights called regressed while the base grows, and after a loss was mended. Prints
a table and judges the lines that have limits: exit code 1 where there are more than 2 false alarms in 40 nights on
average, or fewer than 80 % of losses of 8 % found. The other lines show what one may expect elsewhere, and what the
method's assumptions are worth. The same seed gives the same table on any machine.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latency_profile.compare.history import BASE_NIGHTS, bases
from latency_profile.compare.names import MARGIN
from latency_profile.compare.shift import LONG
from latency_profile.compare.structure import Word

NOISE = 0.05
NIGHTS = 60
SOON = 4  # nights within which a loss is to be found
MOST_FALSE_ALARMS = 2.0
FEWEST_FOUND = 0.8
CORRELATION = 0.3
MENDED = range(BASE_NIGHTS, BASE_NIGHTS + 10)

Noise = Callable[[random.Random, int], list[float]]  # of the logarithms of so many nights


def independent(spread: float) -> Noise:
    return lambda rng, nights: [rng.gauss(0, spread) for _ in range(nights)]


INDEPENDENT = independent(NOISE)


def correlated(rng: random.Random, nights: int) -> list[float]:
    """An AR(1) of the same spread: a neighbour that stays for some nights."""
    values = [rng.gauss(0, NOISE)]
    while len(values) < nights:
        values.append(CORRELATION * values[-1] + rng.gauss(0, NOISE * math.sqrt(1 - CORRELATION**2)))
    return values


def with_bad_nights(rng: random.Random, nights: int) -> list[float]:
    """One night in twenty is 15 % slower."""
    return [rng.gauss(0, NOISE) - (0.15 if rng.random() < 0.05 else 0) for _ in range(nights)]


@dataclass(frozen=True)
class Case:
    """A kind of history. loss: from night `begins` (from 0) on, a share; drift: what is lost every night of all;
    mended: what was lost in the nights of MENDED, and is no longer."""

    name: str
    noise: Noise = INDEPENDENT
    loss: float = 0.0
    begins: int = BASE_NIGHTS
    drift: float = 0.0
    mended: float = 0.0
    judged: bool = False

    def draw(self, rng: random.Random) -> list[float]:
        noise = self.noise(rng, NIGHTS)
        return [each + self._lost(night) for night, each in enumerate(noise)]

    def _lost(self, night: int) -> float:
        lost = night * math.log1p(-self.drift)
        if night in MENDED:
            lost += math.log1p(-self.mended)
        return lost + (math.log1p(-self.loss) if night >= self.begins else 0.0)


CASES = (
    Case("no loss", judged=True),
    Case("8 % from night 21", loss=0.08, judged=True),
    Case("8 % from night 41", loss=0.08, begins=40, judged=True),
    Case("4 % from night 21", loss=0.04),
    Case("15 % from night 41", loss=0.15, begins=40),
    Case("3 % noise, 5.5 % from night 41", independent(0.03), loss=0.055, begins=40),
    Case("15 % in nights 21 to 30, mended", mended=0.15),
    # A base that follows has by now come through the bad nights.
    *(Case(f"as above, 8 % from night {n + 1}", mended=0.15, loss=0.08, begins=n) for n in (46, 52, 56)),
    Case("0.3 % a night", drift=0.003),
    Case("no loss, nights hang together", correlated),
    Case("no loss, one bad night in 20", with_bad_nights),
)


@dataclass
class Tally:
    """Of histories: nights called so among the last 40, on average; `found`, `ever`: shares of the histories."""

    regressed: float = 0.0
    improved: float = 0.0
    equivalent: float = 0.0
    growing: float = 0.0  # regressed among the first 20 nights
    mended: float = 0.0  # regressed among the healthy nights after MENDED, LONG at most
    ever: float = 0.0  # any of the last 40 was called regressed
    found: float = 0.0  # any of the first four after the loss began


def words(goodness: list[float], rolling: bool) -> list[Word | None]:
    """The word of every night; None: too few nights."""
    return [None, *(word for _, word in bases(goodness, MARGIN, rolling))]


def tally(case: Case, histories: int, rolling: bool, seed: int = 0) -> Tally:
    rng = random.Random(f"{seed} {case.name}")
    found = Tally()
    for _ in range(histories):
        said = words(case.draw(rng), rolling)
        late = said[BASE_NIGHTS:]
        found.regressed += late.count(Word.REGRESSED) / histories
        found.improved += late.count(Word.IMPROVED) / histories
        found.equivalent += late.count(Word.EQUIVALENT) / histories
        found.growing += said[:BASE_NIGHTS].count(Word.REGRESSED) / histories
        healthy = said[MENDED.stop : min(MENDED.stop + LONG, case.begins if case.loss else NIGHTS)]
        found.mended += healthy.count(Word.REGRESSED) / histories
        found.ever += (Word.REGRESSED in late) / histories
        found.found += (Word.REGRESSED in said[case.begins : case.begins + SOON]) / histories
    return found


def off(case: Case, found: Tally) -> list[str]:
    """What is beyond the limits, of a line that has any."""
    if not case.judged:
        return []
    if case.loss:
        few = found.found < FEWEST_FOUND
        return [f"{case.name}: found in {found.found:.1%} of histories, {FEWEST_FOUND:.0%} are asked"] if few else []
    many = found.regressed > MOST_FALSE_ALARMS
    return [f"{case.name}: {found.regressed:.2f} false alarms, {MOST_FALSE_ALARMS:g} are allowed"] if many else []


def lines(histories: int, cases: tuple[Case, ...], found_off: list[str]) -> Iterator[str]:
    """The table, in Markdown. What is off is added to `found_off`."""
    called = "regressed, of 40 | any | improved | equivalent"
    yield f"| history | base | {called} | of first 20 | of 16 after | found in 4 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for case in cases:
        for rolling in (False, True):
            found = tally(case, histories, rolling)
            found_off += off(case, found)
            cells = [case.name, "latest" if rolling else "first", f"{found.regressed:.2f}", f"{found.ever:.0%}"]
            cells += [f"{found.improved:.2f}", f"{found.equivalent:.1f}", f"{found.growing:.2f}"]
            cells += [f"{found.mended:.2f}" if case.mended else "–", f"{found.found:.1%}" if case.loss else "–"]
            yield f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=1000, help="histories a line")
    parser.add_argument("--judged", action="store_true", help="only the lines that have limits")
    given = parser.parse_args()
    found_off: list[str] = []
    for line in lines(given.histories, tuple(case for case in CASES if case.judged or not given.judged), found_off):
        print(line, flush=True)
    print(*(["\nOff:", *found_off] if found_off else ["\nAll within their limits."]), sep="\n")
    return int(bool(found_off))


if __name__ == "__main__":
    sys.exit(main())
