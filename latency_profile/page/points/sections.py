"""A point's sections of the page, from its JSON and, where they are there, its records. Pure."""

from collections.abc import Mapping
from typing import Any

from latency_profile.page.detail import WHOLE, Detail
from latency_profile.page.points.distributions import distributions_part
from latency_profile.page.points.evidence import verdict_part
from latency_profile.page.points.failures import failures_part
from latency_profile.page.points.first_token import first_token_part
from latency_profile.page.points.load import load_part
from latency_profile.page.points.machines import machines_part, server_part
from latency_profile.page.points.point import Point, model_of
from latency_profile.page.points.slowest import slowest_part
from latency_profile.page.section import Section
from latency_profile.records import Records
from latency_profile.verdict.evidence import evidence


def point_sections(
    name: str, result: Mapping[str, Any], records: Records | None, detail: Detail = WHOLE
) -> tuple[Section, ...]:
    """What is shown of a point, or of what one of several models has of it, in the order in which it is read.

    name: unique in the page (lower case, digits and hyphens); result: the point's JSON; records: those that it was made
    of, all models' together, or None; detail: how finely it is drawn. Definitions are those of `measures` and `rates`,
    so that figures and JSON agree.
    """
    point = Point(name, result, None if records is None else evidence(records, model_of(result)), detail)
    return (
        verdict_part(point),
        distributions_part(point),
        first_token_part(point),
        load_part(point),
        slowest_part(point),
        failures_part(point),
        server_part(point),
        machines_part(point),
    )
