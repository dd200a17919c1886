"""`latency-profile report`: one HTML page that has the results' numbers, whatever the results are."""

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from latency_profile import records, results
from latency_profile.cli import main
from latency_profile.compare.compared import Options, compare
from latency_profile.compare.nightly import comparison_files
from latency_profile.compare.nights import from_store
from latency_profile.compare.text import compared_line
from latency_profile.cost import digits
from latency_profile.errors import Exit
from latency_profile.page import after, bundle
from latency_profile.page.html import island
from latency_profile.report.table_row import number
from latency_profile.storage import open_folder
from tests import page_profiles
from tests.page_profiles import Page, Report, reporting, steady, written
from tests.servers.simulator import simulator
from tests.tool import SYNTHETIC, benchmark, latency_profile_command, point_files

SLO = {"slo": ["ttft:p90<120ms", "e2e:p50<10s"]}
LONG = "n" * 300


@pytest.fixture(name="report")
def reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    return reporting(tmp_path, capsys)


@pytest.fixture(scope="module", name="measured")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A real profile's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("profile")
    flags = (*SYNTHETIC, "--stream-request", "--save-json-results", "--scrape-server-metrics", "--machine-cost=4")
    with simulator(folder, "--engine", "instant") as server:
        done = benchmark(
            *flags,
            f"--url={server.url}",
            f"--output-dir={folder / 'results'}",
            "--request-rates=40,80",
            "--num-prompts=60",
            "--slo=e2e:p50<60s",
            "--header=x-team: sk-header-secret",
            OPENAI_API_KEY="sk-key-secret",
        )
    assert done.returncode in (Exit.DONE, Exit.UNUSABLE), done.stderr
    yield folder / "results", done.stdout


def points_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    main(["export", str(folder), "--format=csv"])
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_console_csv_json_and_page_have_the_same_numbers(
    measured: tuple[Path, str], report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, printed = measured
    _, page, _ = report(folder)
    main_table = page.tables["Load and latency"]
    headings, rows = main_table[1], main_table[2:]
    assert [row[0] for row in rows] == ["40", "80"]
    in_csv = points_csv(folder, capsys)
    in_json = sorted(
        (json.loads(path.read_text()) for path in point_files(folder)), key=lambda p: p["load"]["request_rate"]
    )
    for row, line, point in zip(rows, in_csv, in_json, strict=True):
        shown = dict(zip(headings, row, strict=False))
        console = " ".join(each for each in printed.splitlines() if re.match(rf"\s*{row[0]} ", each))
        for cell in row:
            assert cell == "–" or cell in console, (cell, console)
        assert shown["tok/s"] == number(float(line["output_tokens_per_s"]))
        assert float(line["output_tokens_per_s"]) == point["throughput"]["output_tokens_per_s"]
        dollars = line["usd_per_million_output_tokens"]  # a busy machine leaves points without a price
        assert shown.get("$/Mtok", "–") == (digits(float(dollars)) if dollars else "–")
        assert {"verdict", "sent", "done", "tok/s", "p50", "p99"} <= set(headings)
    for place, (line, point) in enumerate(zip(in_csv, in_json, strict=True)):
        for latency in ("ttft", "tpot", "itl", "e2e", "ntpot"):
            data = page.figures[f"overview-{latency}"]["data"]["points"]
            for level in ("p50", "p90", "p99"):
                of = [k for k, name in enumerate(data["line"]) if name == level][place]
                exact = point["latency"]["service"][latency][level]
                assert data["y"][of] == exact["value_s"] * 1000 == float(line[f"{latency}_{level}_s"]) * 1000
                assert data["low"][of] == (None if exact["low_s"] is None else exact["low_s"] * 1000)
                assert data["shown"][of].removeprefix("≥ ") == number(exact["value_s"] * 1000)
                assert data["shown"][of] in page.tables[f"{latency.upper()}: numbers"][1 + place]


def test_a_profile_ends_with_the_page_that_the_command_makes(measured: tuple[Path, str], report: Report) -> None:
    folder, printed = measured
    (own,) = folder.glob("*-report-*.html")
    assert f"→ {own}" in printed
    (of,) = folder.glob("*-profile-*.json")
    _, page, _ = report(of)
    assert own.read_text() == page.source


def test_no_secret_is_in_it(measured: tuple[Path, str]) -> None:
    (own,) = measured[0].glob("*-report-*.html")
    assert "sk-" not in Page(own).text
    assert "secret" not in own.read_text()


def test_the_same_results_give_the_same_bytes(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", [steady(5), steady(10)])
    _, one, _ = report(folder)
    _, other, _ = report(folder)
    assert one.source == other.source


def test_a_page_needs_nothing_else_and_is_small(report: Report, tmp_path: Path) -> None:
    _, page, _ = report(written(tmp_path / "a", [steady(rate) for rate in (2, 5, 10, 20, 40, 80)]))
    assert len(page.source.encode()) < 2_000_000
    fetched = [value for _, attributes in page.tags for name in ("src", "href") if (value := attributes.get(name))]
    assert all(value.startswith("#") for value in fetched)
    policy = next(each["content"] for tag, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'")
    assert "University of Washington" in next(text for each, text in page.scripts if each.get("id") == "licences")


def test_names_from_outside_are_text(report: Report, tmp_path: Path) -> None:
    model = '</script><script>alert("1")</script>&amp;'
    metadata = {"additional_metadata_metrics_to_save": {"<b>": "<img src=x onerror=alert(1)>"}}
    point = steady(5, models=[model], settings=metadata)
    other = steady(5, backend="tgi", models=["<i>\u2028"], settings=metadata)
    folder = written(tmp_path / "a", [point])
    written(tmp_path / "a", [other], day=1)
    _, page, _ = report(folder)
    assert model in page.text
    assert not {"img", "b", "i"} & {tag for tag, _ in page.tags}
    assert len([tag for tag, _ in page.tags if tag == "script"]) == page.source.count("</script>") == 6
    assert any(model in name for name in page.figures["overview-ttft"]["data"]["points"]["profile"])


def test_json_in_a_page_ends_no_script() -> None:
    value = {"</script>": "<!-- & \u2028"}
    made = island(value, "x")
    assert made.count("<") == 2
    assert json.loads(made[made.index(">") + 1 : -len("</script>")]) == value


@pytest.mark.parametrize("count", [1, 2])
def test_as_few_as_one_point_make_a_page(report: Report, tmp_path: Path, count: int) -> None:
    code, page, _ = report(written(tmp_path / "a", [steady(5), steady(10)][:count]))
    assert code == Exit.DONE
    assert len(page.tables["Load and latency"]) == 2 + count
    assert f"{count} point" in page.text


def test_points_that_all_failed_are_said_to_be_no_measure(report: Report, tmp_path: Path) -> None:
    code, page, said = report(written(tmp_path / "a", [steady(5, failed=0.5), steady(10, failed=0.2)]))
    assert code == Exit.UNUSABLE
    assert "No point may be used" in page.text
    assert "2 of 2 points must not be used" in said
    assert not any(page.figures["overview-ttft"]["data"]["points"]["usable"])


def test_objectives_come_first_and_else_the_highest_valid_throughput(report: Report, tmp_path: Path) -> None:
    points = [steady(rate, settings=SLO) for rate in (5, 10, 40)]
    told = results.slo_of(map(results.point_result, points))
    assert told is not None and told.highest_kept is not None
    _, page, _ = report(written(tmp_path / "a", points))
    assert told.text in page.text
    assert "per million output tokens" in page.text
    _, page, _ = report(written(tmp_path / "b", [steady(5), steady(40), steady(80, failed=0.3)]))
    best = results.point_result(steady(40))
    assert best.throughput is not None
    assert f"Highest valid throughput: {number(best.throughput.output_tokens_per_s)} output tokens/s" in page.text


def test_no_load_is_promised_by_a_point_that_was_cut_short(report: Report, tmp_path: Path) -> None:
    points = [steady(5, settings=SLO), steady(10, settings=SLO, cut_short="SIGTERM")]
    _, page, said = report(written(tmp_path / "a", points))
    assert "kept up to 5 req/s; at 10 not judged: cut short by SIGTERM. At 5 req/s:" in page.text
    assert "2 points: 2 VALID. At 10: Cut short by SIGTERM." in page.text
    assert "1 of 2 points must not be used: 10 req/s (cut short by SIGTERM)" in said


def test_profiles_that_may_not_be_compared_are_said_to_be_so(report: Report, tmp_path: Path) -> None:
    written(tmp_path / "a", [steady(5), steady(10)])
    written(tmp_path / "a", [steady(5, backend="tgi"), steady(10, backend="tgi")], day=1)
    _, page, _ = report(tmp_path / "a")
    assert "fingerprints differ in backend:" in page.text
    assert ["backend", '"vllm"', '"tgi"'] in page.tables["Where the fingerprints differ"]
    names = set(page.figures["overview-ttft"]["data"]["points"]["profile"])
    assert names == {"vllm 0.9, 2026-01-02 03:04", "tgi 0.9, 2026-01-03 03:04"}
    same = written(tmp_path / "b", [steady(5)])
    written(same, [steady(5)], day=1)
    _, page, _ = report(same)
    assert "fingerprints differ" not in page.text


def test_profiles_that_began_in_the_same_second_are_two(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers profiled at once, each into a folder of its own: the files have the same names."""
    written(tmp_path / "old", [steady(5), steady(10)])
    monkeypatch.setattr(page_profiles, "START_NS", page_profiles.START_NS + 1)
    written(tmp_path / "new", [steady(5, tpot_s=0.03), steady(10, tpot_s=0.03)])
    _, page, _ = report(tmp_path / "old", tmp_path / "new")
    assert set(page.figures["overview-ttft"]["data"]["points"]["profile"]) == {"old", "new"}
    assert page.text.count("2 points: 2 VALID.") == 2


def test_points_without_their_profile_are_said_to_be_so(report: Report, tmp_path: Path) -> None:
    code, page, _ = report(written(tmp_path / "a", [steady(5)], profile=False))
    assert code == Exit.DONE
    assert "no profile's file beside them" in page.text
    _, page, _ = report(written(tmp_path / "b", [steady(5)]))
    assert "no profile's file beside them" not in page.text


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    for path in point_files(folder):
        tree = json.loads(path.read_text())
        edit(tree)
        path.write_text(json.dumps(tree))
    return folder


def test_an_earlier_schema_lacks_only_what_was_added_since(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", [steady(5, settings=SLO)])
    code, page, _ = report(change(folder, lambda tree: (tree.pop("slo"), tree.update(schema_version="1.5"))))
    assert code == Exit.DONE
    assert len(page.tables["Load and latency"]) == 3
    assert "Objectives: none of a share was judged" in page.text
    assert "Measured by latency-profile 0.1.0. " in page.text
    _, page, _ = report(change(folder, lambda tree: tree["provenance"].pop("latency_profile")))
    assert "Page made by" in page.text and "Measured by" not in page.text


def test_what_cannot_be_read_is_left_out_by_name(report: Report, tmp_path: Path) -> None:
    folder = change(written(tmp_path / "a", [steady(5)]), lambda tree: tree.update(schema_version="1.99", later=1))
    code, page, said = report(folder)
    assert code == Exit.UNUSABLE
    assert "There is no point to show" in page.text
    for text in (page.text, said):
        assert "schema 1.99" in text
    old = written(tmp_path / "old", [steady(5), steady(10)])
    earliest = next(old.glob("*-10.0qps-*.json"))
    tree = json.loads(earliest.read_text())
    del tree["fingerprint"]
    earliest.write_text(json.dumps({**tree, "schema_version": "1.2"}))
    code, page, said = report(old)
    assert code == Exit.DONE
    assert len(page.tables["Load and latency"]) == 3
    for text in (page.text, said):
        assert f"{earliest.name}, of schema 1.2, cannot be read" in text


def test_a_rate_has_all_its_digits_wherever_it_stands(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "a", [steady(3.1415926535), steady(1234567.5, failed=0.3)])
    _, page, said = report(folder)
    assert [row[0] for row in page.tables["Load and latency"][2:]] == ["3.1415926535", "1234567.5"]
    assert "1234567.5 req/s (FAILED)" in said
    assert "at 3.1415926535 req/s." in page.text and "3.14159 req/s" not in page.text
    main(["export", str(folder), "--format=markdown"])
    out = capsys.readouterr().out
    assert "| 3.1415926535 req/s |" in out and "| 1234567.5 req/s |" in out


def test_records_that_cannot_be_read_are_said_to_be_so(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", [steady(5), steady(10)])
    path = next(folder.glob("*-10.0qps-*.records.npz"))
    path.write_bytes(path.read_bytes()[:3000])
    code, page, said = report(folder)
    assert code == Exit.DONE
    for text in (page.text, said):
        assert f"{path.name} is no records file of this version" in text and str(folder) not in text


def test_names_of_files_that_are_no_utf8(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / os.fsdecode(b"caf\xe9"), [steady(5)], profile=False)
    (path,) = point_files(folder)
    path.rename(folder / os.fsdecode(b"caf\xe9.json"))
    code, page, _ = report(folder)
    assert code == Exit.DONE
    assert "caf?.json" in page.text


def test_a_folder_without_points_makes_a_page_that_says_so(report: Report, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, page, said = report(tmp_path / "empty")
    assert code == Exit.UNUSABLE
    for text in (page.text, said):
        assert "there is no point in it" in text
    assert "There is no point to show" in page.text


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "a", [steady(5)])
    written(folder / "closed", [steady(10)])
    (folder / ".hidden").mkdir()
    (folder / "lost+found").mkdir()  # at the top of a volume, as a pod has it
    (folder / "no-point.json").mkdir()
    list_folder = os.scandir

    def scan(path: Any) -> Any:
        if Path(path).name in ("closed", ".hidden", "lost+found"):  # root may read all
            raise PermissionError(13, "Permission denied", path)
        return list_folder(path)

    monkeypatch.setattr("os.scandir", scan)
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == Exit.USAGE
    assert capsys.readouterr().err == f"error: {folder / 'closed'}: Permission denied\n"
    shutil.move(folder / "closed", tmp_path)
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == Exit.DONE


def test_a_folder_that_is_not_there_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "typo"), "-o", str(page)]) == Exit.USAGE
    assert "typo" in capsys.readouterr().err and not page.exists()


def test_a_capacity_that_was_searched_for_comes_first(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", [steady(5, settings=SLO), steady(10, settings=SLO)])
    (path,) = folder.glob("*-profile-*.json")
    profile = json.loads(path.read_text())
    known = {"estimate": 9.5, "low": 9.2, "high": 9.8, "confidence": 0.95, "binding": "e2e:mean<1000ms"}
    known |= {"highest_kept": 5.0, "lowest_broken": 10.0, "probes": 2, "requests": 800.0, "seconds": 80.0}
    path.write_text(json.dumps({**profile, "capacity": {**known, "ended": "confirmed", "reason": ""}}))
    code, page, _ = report(folder)
    assert code == Exit.DONE
    said = "Capacity: 9.5 req/s (9.2 to 9.8, 95%); e2e:mean<1000ms breaks first (2 probes, 80 s of sending)."
    assert f"{said} At 5 req/s: " in page.text and "At 10 req/s: " not in page.text, "the highest that is carried"
    path.write_bytes(path.read_bytes().replace(b'"binding": "e2e', b'"binding": "\xff'))
    code, page, _ = report(folder)
    assert code == Exit.DONE and "Capacity:" not in page.text, "bytes that are no text tell of none"


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["-o", "{}"], "-o: got"),
        (["-o", ""], "-o: got ''"),
        (["--plots="], "--plots: got ''"),
        (["-o", LONG], f"-o: {LONG}: File name too long"),
        (["--plots", LONG], f"--plots: {LONG}: File name too long"),
        (["--nights", LONG], f"--nights: {LONG}: File name too long"),
        ([LONG], f"error: {LONG}: File name too long"),
    ],
)
def test_a_bad_flag_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], what: str
) -> None:
    folder = written(tmp_path / "a", [steady(5)])
    assert main(["report", str(folder), *(flag.format(tmp_path) for flag in flags)]) == Exit.USAGE
    said = capsys.readouterr().err
    assert what in said and len(said.splitlines()) == 1


def test_rates_concurrencies_and_bursts_each_have_their_axis(report: Report, tmp_path: Path) -> None:
    written(tmp_path / "a", [steady(5), steady(10), steady(None, request_rate=None, concurrency=None)])
    written(tmp_path / "a", [steady(None)], day=1)
    _, page, _ = report(tmp_path / "a")
    assert "overview-ttft-in-flight" in page.figures
    data = page.figures["overview-ttft"]["data"]["points"]
    assert set(data["load"]) == {"5", "10"}, "a burst has no place on the axis"
    assert any(row[1] == "inf" or row[0] == "inf" for row in page.tables["TTFT: numbers"])


def test_every_figure_is_a_table_too_and_every_table_has_headings(report: Report, tmp_path: Path) -> None:
    _, page, _ = report(written(tmp_path / "a", [steady(5, settings=SLO), steady(10, settings=SLO)]))
    titled = [each["aria-label"] for tag, each in page.tags if each.get("role") == "img"]
    assert len(titled) == len(page.figures) and all(titled)
    assert page.source.count("<summary>Numbers</summary>") == len(page.figures)
    overview = [name for name in page.figures if name.startswith("overview-")]
    assert len([name for name in page.tables if name.endswith(": numbers")]) >= len(overview) >= 10
    assert all(each.get("scope") for tag, each in page.tags if tag == "th")
    tags = [tag for tag, _ in page.tags]
    assert {"header", "nav", "main", "footer"} <= set(tags) and tags.count("h1") == 1
    assert dict(page.tags).keys() >= {"h2", "h3"}


def test_pictures_are_of_the_same_figures(report: Report, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", [steady(5)])
    _, page, _ = report(folder, "--plots", tmp_path / "plots")
    made = {path.name for path in (tmp_path / "plots").iterdir()}
    names = {re.sub(r"^overview-|^point-\d+-\d+-", "", name) for name in page.figures}
    assert made == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert (tmp_path / "plots" / "ttft.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "plots" / "ttft.svg").read_text()
    assert "TTFT, ms" in svg and "offered rate, requests/s" in svg


def test_pictures_of_names_that_xml_has_no_place_for(tmp_path: Path) -> None:
    """The library ends the process at them, which is why there is one of its own here."""
    folder = written(tmp_path / "a", [steady(5, models=["<script>\x01"])])
    written(folder, [steady(5, backend="tgi", models=["b\x1b[31m"])], day=1)
    for path in folder.glob("*.npz"):  # fewer pictures
        path.unlink()
    plots = tmp_path / "plots"
    done = latency_profile_command("report", str(folder), "-o", str(tmp_path / "page.html"), "--plots", str(plots))
    assert done.returncode == Exit.DONE, done.stderr
    told = ["".join(ElementTree.parse(path).getroot().itertext()) for path in plots.glob("throughput-*.svg")]
    assert told and all("<script>\ufffd" in each for each in told)


def test_pictures_say_what_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    folder = written(tmp_path / "a", [steady(5)])
    assert main(["report", str(folder), "--plots", str(tmp_path / "plots")]) == Exit.USAGE
    assert capsys.readouterr().err == (
        "error: --plots: takes the package vl-convert-python (pip install 'latency-profile[plots]')\n"
    )


def test_the_script_is_what_the_pinned_package_makes() -> None:
    assert bundle.script() == bundle.bundled()


def test_a_page_that_cannot_be_made_is_said_and_hides_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(profile: str, *others: object) -> tuple[str, bytes]:
        raise RuntimeError("no such figure")

    monkeypatch.setattr(after, "profile_page", fails)
    code, text = profiled(tmp_path, capsys)
    assert code in (Exit.DONE, Exit.UNUSABLE)
    assert "there is no HTML page of this profile: RuntimeError: no such figure" in text
    assert list(tmp_path.glob("out/*-profile-*.json")) and "TTFT ms" in text


def test_a_profile_without_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiled(tmp_path, capsys, "--no-html-report")
    assert not list(tmp_path.glob("out/*.html")) and list(tmp_path.glob("out/*-profile-*.json"))


def profiled(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    with simulator(folder, "--engine", "instant") as server:
        of = (f"--url={server.url}", f"--output-dir={folder / 'out'}", "--request-rate=50", "--num-prompts=10")
        code = main(["profile", *SYNTHETIC, "--stream-request", "--save-json-results", *of, *flags])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_several_models_are_series_of_their_own_beside_all_together(report: Report, tmp_path: Path) -> None:
    point = steady(10, models=["one", "two"], traffic_split=[0.5, 0.5])
    point["model"][::2] = 1
    _, page, _ = report(written(tmp_path / "a", [point]))
    rows = page.tables["Load and latency"][2:]
    assert [row[0] for row in rows] == ["one", "two", "weighted"]
    assert "weighted: Highest valid throughput" in page.text, "the sentence is of all models together"
    failed = steady(10, models=["one", "two"], traffic_split=[0.5, 0.5], failed=0.5)
    failed["model"][::2] = 1
    _, _, said = report(written(tmp_path / "b", [failed]))
    assert "10 req/s of one (FAILED), 10 req/s of two (FAILED), 10 req/s (FAILED)" in said


def test_a_comparison_beside_a_profile_is_in_its_page(report: Report, tmp_path: Path) -> None:
    for day in range(7):
        written(tmp_path / "a", [steady(10), steady(40, tpot_s=0.012 if day == 6 else 0.01)], day=day)
    *_, newest = sorted((tmp_path / "a").glob("*-profile-*.json"))
    nights = from_store(open_folder(tmp_path / "a"))
    found = compare(nights[-1:], nights[:-1], Options())
    for name, data in comparison_files(found).items():
        results.write(tmp_path / "a", name, data)
    _, page, _ = report(newest)
    assert compared_line(found) in page.text
    assert "nights-0-nights-shifts" in page.figures
    assert "are not there" not in page.text, "the other nights lie in the same folder"
    _, page, _ = report(*sorted((tmp_path / "a").glob("*-profile-*.json"))[:1])
    assert not [name for name in page.figures if name.startswith("nights-")]


def test_records_alone_make_a_page(report: Report, tmp_path: Path) -> None:
    point = steady(5)
    path = tmp_path / "one.records.npz"
    point.save(path)
    assert records.load(path)
    code, page, _ = report(path)
    assert code == Exit.DONE and len(page.tables["Load and latency"]) == 3
