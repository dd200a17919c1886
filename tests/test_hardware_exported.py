"""Accelerators by a cluster's exporters: DCGM's and GKE's metrics, whose they are, and a real Prometheus in between."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import requests

from latency_profile.hardware.exported import Exported, Whose, exported
from latency_profile.hardware.structure import GpuReadings, HardwareReadings
from latency_profile.hardware.summary import gpu_summary, tpu_summary
from latency_profile.telemetry.prometheus import PrometheusSource
from latency_profile.telemetry.prometheus_api import Api, Refused
from latency_profile.telemetry.promql import Series
from latency_profile.telemetry.vocabulary import VLLM
from tests.prometheus_points import BEFORE
from tests.servers.prometheus import exporter, prometheus

START_S = 1000.0
TIMES = [990.0, 1000.0, 1010.0, 1020.0, 1030.0]


def series(name: str, values: Sequence[float], **labels: str) -> Series:
    return Series(name, tuple(sorted(labels.items())), TIMES[: len(values)], list(values))


def told(found: Mapping[str, list[Series]], whose: Whose, *, tpus: bool = False) -> tuple[Exported, list[str]]:
    """What is made of these answers, and what was asked for."""
    asked: list[str] = []

    def ask(name: str) -> list[Series]:
        asked.append(name)
        return list(found.get(name, []))

    return exported(ask, whose, START_S, tpus=tpus), asked


CARD = {"gpu": "0", "UUID": "GPU-a", "Hostname": "node-1", "modelName": "NVIDIA H100", "DCGM_FI_DRIVER_VERSION": "580"}
MINE = Whose(frozenset({"vllm-0"}), None)


def dcgm(**labels: str) -> dict[str, list[Series]]:
    """One card: 300 W and then 500 W, of which the counter tells; capped at two samples of five."""
    of = {**CARD, **labels}
    return {
        name: [series(name, values, **of)]
        for name, values in (
            ("DCGM_FI_DEV_POWER_USAGE", [300.0, 300.0, 500.0, 500.0, 500.0]),
            ("DCGM_FI_DEV_GPU_UTIL", [0.0, 50.0, 100.0, 100.0, 100.0]),
            ("DCGM_FI_DEV_FB_USED", [1024.0] * 5),
            ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", [7e6, 10e6, 14e6, 19e6, 24e6]),
            ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", [0.0, 0.0, 4.0, 4.0, 0.0]),
        )
    }


def test_a_card_in_the_units_of_nvml() -> None:
    found, _ = told(dcgm(pod="vllm-0"), MINE)
    (gpu,) = found.gpus
    assert (gpu.uuid, gpu.name, gpu.driver, found.absent) == ("GPU-a", "NVIDIA H100", "580", None)
    assert gpu.times_s == [-10.0, 0.0, 10.0, 20.0, 30.0]
    assert gpu.utilization == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert gpu.memory_used_bytes == [2**30] * 5
    assert gpu.sm_clock_mhz is None, "not exported is not 0"
    summary = gpu_summary(gpu, 0.0, 30.0)
    assert (summary.energy_j, summary.energy_by) == (pytest.approx(14_000.0), "counter")
    assert summary.throttled_by == {"sw_power_cap": 0.5}
    assert summary.power_w is not None
    assert summary.power_w.mean == pytest.approx(450.0)


@pytest.mark.parametrize(
    ("labels", "whose", "taken"),
    [
        ({"pod": "vllm-0"}, MINE, True),
        ({"pod": "dcgm-x", "exported_pod": "vllm-0"}, MINE, True),
        ({"pod": "vllm-0", "exported_pod": "trainer"}, MINE, False),
        ({"pod": "trainer"}, MINE, False),
        ({}, MINE, False),
        ({"namespace": "gmp-public", "exported_namespace": "llm"}, Whose(frozenset(), "llm"), True),
        ({"namespace": "gmp-public"}, Whose(frozenset(), "llm"), False),
        ({"namespace": "llm"}, Whose(frozenset(), None), False),
    ],
)
def test_only_the_servers_own_cards_count(labels: dict[str, str], whose: Whose, taken: bool) -> None:
    found, _ = told(dcgm(**labels), whose)
    assert bool(found.gpus) is taken
    assert taken or "not said to be the server's pods'" in str(found.absent)


def test_without_an_exporter_one_question_is_enough() -> None:
    found, asked = told({}, MINE)
    assert (found.gpus, found.tpus, asked) == ([], [], ["DCGM_FI_DEV_POWER_USAGE"])
    assert found.absent == "Prometheus has no accelerators' metrics"


def test_a_refusal_is_a_reason() -> None:
    def ask(name: str) -> list[Series]:
        raise Refused("Google Managed Prometheus denies access (HTTP status 403)")

    assert "403" in str(exported(ask, MINE, START_S, tpus=True).absent)


def test_chips_of_a_tpu() -> None:
    prefix = "kubernetes_io:container_accelerator_"
    of = {"pod_name": "jetstream-0", "namespace_name": "llm", "node_name": "n", "model": "tpu-v5-lite-podslice"}
    answers = {
        f"{prefix}duty_cycle": [series("", [10.0, 90.0, 100.0], **of, accelerator_id=chip) for chip in ("b", "a")],
        f"{prefix}memory_used": [series("", [2.0**33] * 3, **of, accelerator_id="a")],
    }
    found, _ = told(answers, Whose(frozenset({"jetstream-0"}), None), tpus=True)
    assert [tpu.accelerator for tpu in found.tpus] == ["a", "b"]
    first, second = (tpu_summary(tpu, 0.0, 30.0) for tpu in found.tpus)
    assert first.duty_cycle is not None
    assert first.duty_cycle.mean == pytest.approx(0.95)
    assert first.memory_used_bytes is not None
    assert first.memory_used_bytes.max == 2**33
    assert (second.memory_used_bytes, second.tensorcore_utilization) == (None, None)
    assert told(answers, Whose(frozenset({"jetstream-0"}), None))[0].tpus == [], "only Google has them"


def text(power: float, energy_mj: float) -> str:
    """vLLM's metrics, and beside them two cards of which one serves."""
    lines = [BEFORE.rstrip("\n")]
    for name, kind, value in (
        ("DCGM_FI_DEV_POWER_USAGE", "gauge", power),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", energy_mj),
    ):
        lines.append(f"# TYPE {name} {kind}")
        for uuid, namespace in (("GPU-a", "default"), ("GPU-b", "others")):
            lines.append(f'{name}{{gpu="0",UUID="{uuid}",namespace="{namespace}",pod="p-{uuid}"}} {value}')
    return "\n".join(lines) + "\n"


def test_through_a_real_prometheus(tmp_path: Path) -> None:
    """200 W for three seconds: 600 J by the counter, of the card in the server's namespace alone."""
    with exporter(text(200.0, 0.0)) as server, prometheus(tmp_path, [server.port]) as url:
        source = PrometheusSource(
            Api(url, requests.Session()),
            VLLM,
            namespace="default",
            job="vllm-podmonitoring",
            settle_s=5.0,
            ready_s=10.0,
        )
        source.check()
        time.sleep(1.0)
        start = time.time()
        for step in range(12):
            server.text = text(200.0, 50e3 * (step + 1))
            time.sleep(0.25)
        end = time.time()
        assert source.point_finished(start, end).readings is not None
        found = source.accelerators(start)
    (gpu,) = found.gpus
    assert gpu.uuid == "GPU-a"
    summary = gpu_summary(gpu, 0.0, end - start)
    assert summary.energy_by == "counter"
    assert summary.energy_j == pytest.approx(600.0, rel=0.25)
    assert summary.power_w is not None
    assert (summary.power_w.min, summary.power_w.max) == (200.0, 200.0)
    assert HardwareReadings(gpus=found.gpus, source="dcgm").source == "dcgm"
    assert isinstance(gpu, GpuReadings)
