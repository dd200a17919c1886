"""The search that settings ask for."""

from latency_profile.capacity.probe import Probe, Running
from latency_profile.capacity.search import Search
from latency_profile.settings import Settings
from latency_profile.slo.grammar import parse


def search_of(settings: Settings) -> Search:
    """At its beginning. settings: of --find-capacity, as `settings.checks` lets them through."""
    assert settings.max_rate is not None
    objectives = [parse(name) for name in settings.slo]
    return Search(
        objectives, settings.request_rate, settings.max_rate, settings.max_duration, settings.capacity_precision
    )


def first_probe(settings: Settings) -> tuple[Probe, Running]:
    search = search_of(settings)
    probe = search.next()
    assert isinstance(probe, Probe), "nothing is known yet"
    return probe, search.running()
