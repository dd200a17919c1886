"""From a machine's samples to results: energy whose value is known, throttling, windows, and what is not known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.nvml import compare, parse
from latency_profile import records, results
from latency_profile.errors import Exit
from latency_profile.hardware.structure import GpuReadings, HardwareReadings, HostReadings
from latency_profile.hardware.summary import energy_j, energy_use, gpu_summary, throttling
from latency_profile.records import Records
from latency_profile.verdict import Name, exit_code, judge
from tests.make_records import make_records

TIMES = [round(-1 + step / 10, 1) for step in range(131)]  # -1 to 12 s
IDLE, SET_CLOCKS, POWER_CAP, SYNC_BOOST, HW_THERMAL = 0x1, 0x2, 0x4, 0x10, 0x40


def gpu(**changes) -> GpuReadings:
    """One that uses 200 W all the time, and knows everything."""
    values = {
        "index": 0,
        "uuid": "GPU-0",
        "name": "Card",
        "driver": "580.1",
        "memory_bytes": 80 << 30,
        "power_limit_w": 350.0,
        "times_s": TIMES,
        "energy_j": [200 * (at + 1) for at in TIMES],
        "power_w": [200.0] * len(TIMES),
        "utilization": [0.5] * len(TIMES),
        "memory_used_bytes": [5 << 30] * len(TIMES),
        "temperature_c": [45] * len(TIMES),
        "sm_clock_mhz": [1980] * len(TIMES),
        "memory_clock_mhz": [2619] * len(TIMES),
        "clock_reasons": [0] * len(TIMES),
    }
    return GpuReadings(**(values | changes))


# 100 W and 10 W a second more: from a to b that is 100 (b - a) + 5 (b² - a²) J.
RAMP = {"power_w": [100 + 10 * at for at in TIMES], "energy_j": [100 * (at + 1) + 5 * (at**2 - 1) for at in TIMES]}


@pytest.mark.parametrize(("start_s", "end_s", "joules"), [(2, 8, 900.0), (2.05, 8.05, 903.0), (0, 12, 1920.0)])
def test_the_energy_of_a_ramp_by_the_counter_and_by_the_power(start_s: float, end_s: float, joules: float) -> None:
    assert energy_j(gpu(**RAMP), start_s, end_s) == (pytest.approx(joules, abs=0.03), "counter")
    assert energy_j(gpu(**RAMP | {"energy_j": None}), start_s, end_s) == (pytest.approx(joules, abs=0.03), "power")


def test_each_series_inside_the_window_alone() -> None:
    found = gpu_summary(gpu(**RAMP), 2, 8)
    assert found.samples == 61
    power = found.power_w
    assert power is not None
    values = np.linspace(120, 180, 61)
    assert (power.mean, power.median, power.min, power.max) == pytest.approx((150, 150, 120, 180))
    assert power.sd == pytest.approx(values.std())
    assert (power.p90, power.p95, power.p99) == pytest.approx((174, 177, 179.4))
    assert found.memory_used_bytes is not None
    assert found.memory_used_bytes.max == 5 << 30


def test_throttled_is_what_holds_the_clocks_down_and_nothing_else() -> None:
    reasons = [IDLE | SET_CLOCKS | SYNC_BOOST] * len(TIMES)
    inside = [place for place, at in enumerate(TIMES) if 2 <= at <= 8]
    for place in inside[:30]:
        reasons[place] = POWER_CAP | SET_CLOCKS
    for place in inside[30:36]:
        reasons[place] = POWER_CAP | HW_THERMAL
    reasons[0] = reasons[-1] = HW_THERMAL  # outside
    found = throttling(gpu(clock_reasons=reasons), 2, 8)
    assert found is not None
    assert found.share == pytest.approx(36 / 61)
    assert list(found.by.items()) == [("sw_power_cap", pytest.approx(36 / 61)), ("hw_thermal", pytest.approx(6 / 61))]
    assert throttling(gpu(clock_reasons=[IDLE | SET_CLOCKS | SYNC_BOOST | 0x100] * len(TIMES)), 2, 8).share == 0


def test_what_the_card_does_not_tell_is_null_and_never_0() -> None:
    series = ("power_w", "energy_j", "utilization", "memory_used_bytes", "temperature_c", "sm_clock_mhz")
    found = gpu_summary(gpu(**dict.fromkeys((*series, "memory_clock_mhz", "clock_reasons"))), 2, 8)
    assert [getattr(found, name) for name in series] == [None] * len(series)
    assert (found.energy_by, found.throttled_share, found.throttled_by) == (None, None, None)


def test_a_window_of_one_sample_tells_nothing() -> None:
    found = gpu_summary(gpu(), 2.01, 2.15)
    assert (found.samples, found.power_w, found.energy_j, found.throttled_share) == (1, None, None, None)
    assert gpu_summary(gpu(), 2.01, 2.25).energy_j == pytest.approx(48)


def test_a_gpu_that_was_lost_has_no_energy_and_the_values_until_then() -> None:
    def until(values: list[float]) -> list[float | None]:
        return [value if at < 5 else None for value, at in zip(values, TIMES, strict=True)]

    found = gpu_summary(gpu(power_w=until(RAMP["power_w"]), energy_j=until(RAMP["energy_j"])), 2, 8)
    assert found.energy_j is None
    assert found.power_w is not None
    assert found.power_w.max == pytest.approx(149)


def test_samples_that_end_a_little_before_the_window_stand_for_the_rest() -> None:
    assert energy_j(gpu(), 2, 12.4) == (pytest.approx(200 * 10.4), "counter")
    assert energy_j(gpu(), 2, 12.6) is None, "more than a twentieth is missing"


def test_a_counter_that_began_anew_is_not_believed() -> None:
    counter = [value if at < 5 else value - 900 for value, at in zip(gpu().energy_j, TIMES, strict=True)]
    assert energy_j(gpu(energy_j=counter), 2, 8) == (pytest.approx(1200), "power")


def test_a_sample_that_is_missing_in_between_leaves_the_energy() -> None:
    holes = [None if 3 < at < 4 else value for value, at in zip(gpu().energy_j, TIMES, strict=True)]
    assert energy_j(gpu(energy_j=holes), 2, 8) == (pytest.approx(1200), "counter")


def test_energy_a_token_is_of_all_gpus() -> None:
    use = energy_use([gpu(), gpu(index=1, **RAMP)], 2, 8, 70.0)
    assert use.energy_j == pytest.approx(1200 + 900)
    assert use.mean_power_w == pytest.approx(350)
    assert use.joules_per_output_token == pytest.approx(5)
    assert use.output_tokens_per_s_per_w == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gpus", "tokens_per_s"),
    [
        ([gpu(), gpu(power_w=None, energy_j=None)], 70.0),
        ([gpu(utilization=[0.0] * len(TIMES))], 70.0),
        ([gpu()], 0.0),
        ([gpu()], None),
        ([], 70.0),
    ],
    ids=["one does not tell", "not at work", "no tokens", "not to be used", "none"],
)
def test_energy_a_token_that_is_not_known(gpus: list[GpuReadings], tokens_per_s: float | None) -> None:
    use = energy_use(gpus, 2, 8, tokens_per_s)
    assert use.joules_per_output_token is use.output_tokens_per_s_per_w is None


def test_a_card_without_a_figure_of_utilization_may_have_been_at_work() -> None:
    assert energy_use([gpu(utilization=None)], 2, 8, 50.0).joules_per_output_token == pytest.approx(4)


def measured(*gpus: GpuReadings, **changes) -> Records:
    """Ten requests a second of five tokens each for 12 s, and the machine meanwhile."""
    due = np.arange(120) / 10
    hardware = HardwareReadings(
        gpus=list(gpus),
        host=HostReadings(
            cpus=4,
            memory_bytes=64 << 30,
            times_s=[float(at) for at in range(-1, 13)],
            cpu_busy=[None] + [0.25] * 13,
            memory_available_bytes=[32 << 30] * 14,
        ),
        server_here=True,
        sampling_cpu_s=0.026,
        sampling_s=13.0,
    )
    settings = {"file_prefix": "benchmark", "find_warmup": False}
    tokens = list(due[:, None] + np.arange(1, 6) / 100)
    return make_records(due, None, tokens, duration_s=12.0, settings=settings, hardware=replace(hardware, **changes))


def test_a_points_result_and_its_files(tmp_path: Path) -> None:
    point = measured(gpu())
    result = results.point_result(point)
    told = result.telemetry
    assert told is not None
    assert result.throughput is not None
    assert result.throughput.output_tokens_per_s == pytest.approx(50, rel=0.02)
    assert told.energy is not None
    assert told.energy.mean_power_w == pytest.approx(200)
    assert told.energy.joules_per_output_token == pytest.approx(200 / result.throughput.output_tokens_per_s)
    assert told.gpus[0].energy_j == pytest.approx(200 * (result.window.end_s - result.window.start_s))
    assert told.sampler_core_share == pytest.approx(0.002)
    assert told.host is not None
    assert told.host.cpu_busy is not None
    assert (told.host.cpus, told.host.cpu_busy.mean, told.host.server_here) == (4, 0.25, True)
    point.save(tmp_path / "point.records.npz")
    again = records.load(tmp_path / "point.records.npz")
    assert again.context.hardware == point.context.hardware
    assert results.point_files(again) == results.point_files(point)


def test_a_point_that_nobody_watched_and_one_without_gpus() -> None:
    point = measured(gpu())
    point.context.hardware = None
    assert results.point_result(point).telemetry is None
    told = results.point_result(measured(absent="no NVIDIA driver on this machine", sampling_s=None)).telemetry
    assert told is not None
    assert (told.gpus, told.energy, told.sampler_core_share) == ([], None, None)
    assert told.absent == "no NVIDIA driver on this machine"


def test_a_point_that_must_not_be_used_has_no_energy_a_token() -> None:
    point = measured(gpu())
    point.columns["sent_ns"] += 500_000_000  # the client was late
    result = results.point_result(point)
    assert not result.verdict.usable
    assert result.telemetry is not None
    assert result.telemetry.energy is not None
    assert result.telemetry.energy.energy_j is not None
    assert result.telemetry.energy.joules_per_output_token is None


def throttled(*gpus: GpuReadings) -> list[str]:
    verdict = judge(measured(*gpus))
    assert exit_code([verdict]) is Exit.DONE, "a remark changes no verdict"
    return [remark.text for remark in verdict.remarks if remark.name is Name.GPU_THROTTLED]


def capped(share: float) -> list[int]:
    """Power-capped in so many of the 121 samples of the window."""
    inside = [place for place, at in enumerate(TIMES) if 0 <= at <= 12]
    chosen = set(inside[: round(share * len(inside))])
    return [POWER_CAP if place in chosen else 0 for place in range(len(TIMES))]


def test_a_throttled_gpu_is_a_remark_that_names_the_cause() -> None:
    assert throttled(gpu(clock_reasons=capped(0.4))) == [
        "GPU 0 (Card) was throttled in 39.7% of the window (limit 1%): its power limit of 350 W in 39.7%."
    ]
    assert throttled(gpu(clock_reasons=capped(0.1)), gpu(index=1, name=None, clock_reasons=capped(0.3)), gpu()) == [
        "GPU 1, and 1 more no longer than that, was throttled in 29.8% of the window (limit 1%): "
        "its power limit of 350 W in 29.8%."
    ]


def test_gpus_that_were_throttled_for_as_long() -> None:
    (text,) = throttled(*(gpu(index=index, clock_reasons=capped(1.0)) for index in range(2)))
    assert text.startswith("GPU 0 (Card), and 1 more no longer than that, was throttled in 100.0% of the window")


def test_few_samples_tell_no_percentage() -> None:
    (text,) = throttled(gpu(times_s=[2.0, 5.0, 8.0, 11.0], clock_reasons=[0, POWER_CAP, POWER_CAP, 0]))
    assert text == "GPU 0 (Card) was throttled in 2 of 4 samples: its power limit of 350 W in 2."


def test_idle_cards_beside_the_one_that_serves_are_said() -> None:
    told = results.point_result(measured(gpu(), gpu(index=1, utilization=[0.0] * len(TIMES)))).telemetry
    assert told is not None
    assert told.notices == ["1 of 2 GPUs were never at work: energy and joules a token count them too"]
    (alone,) = [results.point_result(measured(gpu())).telemetry]
    assert alone is not None
    assert alone.notices == []


def test_below_the_limit_it_is_none() -> None:
    assert throttled(gpu(clock_reasons=capped(1 / 121))) == []
    assert len(throttled(gpu(clock_reasons=capped(2 / 121)))) == 1
    assert throttled(gpu(clock_reasons=None)) == []


def smi(*values: str, second: int = 3) -> str:
    return ", ".join([f"2026/01/02 03:04:{second:02}.000", "0", *values])


def test_nvidia_smi_within_its_resolution_and_beyond_it() -> None:
    same = ("50", "5120", "200.00", "45", "1980", "2619")
    line = parse(smi(*same))
    start = line.unix_s - 3
    assert all(one.agrees for one in compare([line], [gpu()], start))
    assert len(compare([line], [gpu()], start)) == 6
    moved = parse(smi("51", "5121", "200.01", "46", "1981", "2620"))
    assert all(one.agrees for one in compare([moved], [gpu()], start)), "a step of its resolution is rounding"
    beyond = parse(smi("52", "5122", "200.02", "47", "1982", "2622"))
    assert [one.agreeing for one in compare([beyond], [gpu()], start)] == [0] * 6
    assert len(compare([parse(smi("[N/A]", *same[1:]))], [gpu()], start)) == 5


def test_nvidia_smi_is_held_against_the_samples_about_its_line() -> None:
    """A ramp of 10 W a second: at 3 s it is 130 W, and 127 to 133 W within 0.3 s of it."""
    lines = [parse(smi("50", "5120", power, "45", "1980", "2619")) for power in ("127.00", "130.00", "133.10")]
    (power,) = (one for one in compare(lines, [gpu(**RAMP)], lines[0].unix_s - 3) if one.column.query == "power.draw")
    assert (power.lines, power.agreeing) == (3, 2)
    assert power.furthest == pytest.approx(0.1)
    assert power.nearest_mean == pytest.approx(130)
