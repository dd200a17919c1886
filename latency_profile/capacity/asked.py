"""The search that settings ask for."""

from latency_profile.capacity.probe import Probe, Running
from latency_profile.capacity.search import Search
from latency_profile.capacity.users import UsersSearch
from latency_profile.settings import Settings
from latency_profile.slo.grammar import parse


def search_of(settings: Settings) -> Search | UsersSearch:
    """At its beginning. settings: of --find-capacity, as `settings.checks` lets them through."""
    objectives = [parse(name) for name in settings.slo]
    if settings.concurrencies:
        lowest, highest = settings.concurrencies
        return UsersSearch(objectives, lowest, highest, settings.max_duration, settings.capacity_precision)
    assert settings.max_rate is not None
    return Search(
        objectives, settings.request_rate, settings.max_rate, settings.max_duration, settings.capacity_precision
    )


def first_probe(settings: Settings) -> tuple[Probe, Running]:
    search = search_of(settings)
    probe = search.next()
    assert isinstance(probe, Probe), "nothing is known yet"
    return probe, search.running()


def most_requests(settings: Settings) -> int:
    """Of a search over concurrency, all its probes together."""
    search = search_of(settings)
    assert isinstance(search, UsersSearch)
    return search.most_requests
