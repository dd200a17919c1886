"""The rising curve that is nearest to scores which chance has made to fall here and there. Pure."""

from collections.abc import Sequence

MOST = 2.0  # of a mean score, in the curve: how far beyond 1 it is says little, as misses come in clusters


def ends(probes: Sequence[tuple[float, float, float]]) -> tuple[float | None, float | None]:
    """Of (rate, mean score, weight) each: the highest rate where the curve is 1 at most, and the lowest where it is
    above; None where there is none.

    The curve is the weighted least-squares one: neighbours that fall are pooled (Ayer, Brunk, Ewing, Reid & Silverman,
    An empirical distribution function for sampling with incomplete information, Ann. Math. Statist. 26, 1955).
    """
    pools: list[tuple[float, float, float, float]] = []  # lowest and highest rate, mean, weight
    for rate, mean, weight in sorted(probes):
        low, high, level, own = rate, rate, min(mean, MOST), weight
        while pools and pools[-1][2] >= level:
            before_low, _, before, its = pools.pop()
            low, level, own = before_low, (before * its + level * own) / (its + own), its + own
        pools.append((low, high, level, own))
    kept = max((high for _, high, level, _ in pools if level <= 1), default=None)
    broken = min((low for low, _, level, _ in pools if level > 1), default=None)
    return kept, broken
