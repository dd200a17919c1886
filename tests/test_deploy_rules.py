"""What schemas miss: every rule holds for every rendered object, and each of them sees what it is there for."""

import pytest

from tests.manifests import objects as parts
from tests.manifests import values, wrong_ours, wrong_references, wrong_values
from tests.manifests.all_rules import RULES, Rule
from tests.manifests.changes import CRON, spec
from tests.manifests.rendering import SETS, objects

WRONG = wrong_values.WRONG | wrong_references.WRONG | wrong_ours.WRONG


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("folder", SETS)
def test_rule_holds(folder: str, rule: Rule) -> None:
    assert list(rule(objects(folder))) == []


@pytest.mark.parametrize("name", WRONG)
def test_rule_sees(name: str) -> None:
    rule, folder, change, line = WRONG[name]
    given = objects(folder)
    change(given)
    assert [each for each in rule(given) if line in each], list(rule(given))


def test_every_rule_has_seen_something() -> None:
    assert {rule for rule, *_ in WRONG.values()} == set(RULES)


@pytest.mark.parametrize("plain", ["N", "y", "no", "on", "True", "1", "1.5", "1e3", "0x10", "~", "2001-01-01"])
def test_plain_scalars_are_no_text_to_kubernetes(plain: str) -> None:
    [read] = parts.read(f"value: {plain}\nquoted: '{plain}'\n")
    assert not isinstance(read["value"], str)
    assert read["quoted"] == plain


@pytest.mark.parametrize("plain", ["1,2,4", "inf", "vllm", "/results", "nightly", "1Gi", "$(A)-$(B)"])
def test_other_plain_scalars_are_text(plain: str) -> None:
    assert parts.read(f"value: {plain}\n") == [{"value": plain}]


@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/15 0-6/2 1,15 jan-jun MON", "0 0 * * 7"])
def test_schedules_that_are_some(schedule: str) -> None:
    given = objects(CRON)
    spec(given, "CronJob")["schedule"] = schedule
    assert list(values.schedules(given)) == []
