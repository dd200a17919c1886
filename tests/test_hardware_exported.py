"""Accelerators by a cluster's exporters: DCGM's and GKE's metrics, whose they are, and a real Prometheus in between."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import requests

from latency_profile.hardware.exported import Exported, Whose, exported
from latency_profile.hardware.structure import GpuReadings
from latency_profile.hardware.summary import energy_j, energy_use, gpu_summary, tpu_summary
from latency_profile.hardware.watch import PointWatch
from latency_profile.telemetry.prometheus import PrometheusSource
from latency_profile.telemetry.prometheus_api import Api, Refused
from latency_profile.telemetry.promql import Series
from latency_profile.telemetry.vocabulary import VLLM
from tests.make_records import make_records
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


def test_without_an_exporter_two_questions_are_enough() -> None:
    found, asked = told({}, MINE)
    assert (found.gpus, found.tpus, asked) == ([], [], ["DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_UTIL"])
    assert found.absent == "Prometheus has no accelerators' metrics"


def test_an_exporter_need_not_tell_the_power() -> None:
    answers = dcgm(pod="vllm-0")
    del answers["DCGM_FI_DEV_POWER_USAGE"]
    (gpu,) = told(answers, MINE)[0].gpus
    assert (gpu.power_w, gpu.utilization) == (None, [0.0, 0.5, 1.0, 1.0, 1.0])


def test_a_refusal_leaves_what_was_told_before_it() -> None:
    def ask(name: str) -> list[Series]:
        if name == "DCGM_FI_DEV_FB_USED":
            raise Refused("Prometheus cannot evaluate the query (HTTP status 422)")
        return dcgm(pod="vllm-0").get(name, [])

    found = exported(ask, MINE, START_S, tpus=False)
    assert [gpu.power_w is not None for gpu in found.gpus] == [True]
    assert found.notices == ["Prometheus cannot evaluate the query (HTTP status 422): DCGM_FI_DEV_FB_USED"]


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


def together(*answers: Mapping[str, list[Series]]) -> dict[str, list[Series]]:
    names = dict.fromkeys(name for one in answers for name in one)
    return {name: [series for one in answers for series in one.get(name, [])] for name in names}


def test_a_card_that_two_exporters_tell_of_is_one() -> None:
    """One calls the host by its node, the other by its own pod."""
    twice = together(dcgm(pod="vllm-0"), dcgm(pod="vllm-0", Hostname="dcgm-exporter-x"))
    use = energy_use(told(twice, MINE)[0].gpus, 0.0, 30.0, 1.0)
    assert use.energy_j == pytest.approx(14_000.0)


def test_the_energy_of_a_board_is_not_that_of_its_instances() -> None:
    halves = together(*(dcgm(pod="vllm-0", GPU_I_ID=instance) for instance in ("1", "2")))
    found, _ = told(halves, MINE)
    assert [gpu.memory_used_bytes for gpu in found.gpus] == [[2**30] * 5] * 2
    assert energy_use(found.gpus, 0.0, 30.0, 1.0).energy_j is None


def test_a_card_has_the_number_that_nvidia_smi_gives_it() -> None:
    assert [gpu.index for gpu in told(dcgm(pod="vllm-0", gpu="5"), MINE)[0].gpus] == [5]


@pytest.mark.parametrize(("namespace", "taken"), [("llm", True), ("staging", False)])
def test_pods_of_one_name_in_two_namespaces(namespace: str, taken: bool) -> None:
    found, _ = told(dcgm(pod="vllm-0", namespace=namespace), Whose(frozenset({"vllm-0"}), "llm"))
    assert bool(found.gpus) is taken


def test_chips_of_two_hosts_may_have_the_same_id() -> None:
    name = "kubernetes_io:container_accelerator_duty_cycle"
    chips = [series("", [share] * 3, pod_name=pod, accelerator_id="0") for pod, share in (("a", 10.0), ("b", 90.0))]
    found, _ = told({name: chips}, Whose(frozenset({"a", "b"}), None), tpus=True)
    assert [(tpu.pod, tpu.duty_cycle) for tpu in found.tpus] == [("a", [0.1] * 3), ("b", [0.9] * 3)]


def test_gpus_in_gkes_metrics_are_no_tpus() -> None:
    name = "kubernetes_io:container_accelerator_duty_cycle"
    found, _ = told({name: [series("", [50.0] * 3, pod_name="vllm-0", make="nvidia")]}, MINE, tpus=True)
    assert (found.gpus, found.tpus) == ([], [])
    assert "DCGM" in str(found.absent)


def test_a_counter_that_an_exporter_repeats_has_no_energy_over_a_short_time() -> None:
    """Of 100 W before 0 s and 500 W from there: where it stood at 10 s, no sample tells."""
    times = [float(at) for at in range(-30, 91, 15)]
    known = [at - at % 30 for at in times]  # the exporter's own readings are half a minute apart
    counter = [3000.0 + (500 if at > 0 else 100) * at for at in known]
    values = dict.fromkeys(GpuReadings.__slots__) | {"index": 0, "times_s": times, "energy_j": counter}
    assert energy_j(GpuReadings(**values), 10.0, 70.0) is None
    longer = [*times, *(float(at) for at in range(105, 631, 15))]
    values |= {"times_s": longer, "energy_j": [100.0 * (at - at % 30) for at in longer]}
    assert energy_j(GpuReadings(**values), 10.0, 610.0) == (pytest.approx(60_000.0, rel=0.05), "counter")


class TwoModels:
    """A Prometheus that knows the pods of two models, and the card of each."""

    def fresh(self) -> None:
        pass

    def query(self, promql: str, at_unix_s: float | None = None) -> list[Series]:
        name = promql.partition("{")[0].partition("[")[0]
        pods = {"mine-0": ("mine", "GPU-a"), "other-0": ("other", "GPU-b")}
        if name == "vllm:num_requests_running":
            return [series(name, [1.0], pod=pod, instance=pod, model_name=model) for pod, (model, _) in pods.items()]
        if name == "DCGM_FI_DEV_POWER_USAGE":
            return [series(name, [300.0] * 5, pod=pod, UUID=uuid) for pod, (_, uuid) in pods.items()]
        return []


def test_the_pods_of_another_model_do_not_serve() -> None:
    api = cast("Api", TwoModels())
    source = PrometheusSource(api, VLLM, models=["mine"], settle_s=0.1, ready_s=0.1)
    source.check()
    assert [gpu.uuid for gpu in source.accelerators(START_S).gpus] == ["GPU-a"]


def test_a_point_takes_what_the_exporters_told() -> None:
    context = make_records(np.arange(10) / 10, None, None, duration_s=30.0).context
    watch = PointWatch(None, "the server is not on this machine", server_here=False)
    cards, _ = told(dcgm(pod="vllm-0"), MINE)
    found = watch.of(context, cards)
    assert (found.source, found.absent, found.notices) == ("dcgm", None, [])
    assert found.gpus == cards.gpus
    nothing = watch.of(context, Exported([], [], "Prometheus has no accelerators' metrics", []))
    assert (nothing.source, nothing.gpus) == (None, [])
    assert nothing.absent == "the server is not on this machine; Prometheus has no accelerators' metrics"
    labels = tuple(sorted({**CARD, "pod": "vllm-0"}.items()))
    sparse = {name: [Series(name, labels, [START_S + 1, START_S + 29], [1.0, 2.0])] for name in dcgm()}
    assert watch.of(context, told(sparse, MINE)[0]).notices == [
        "no energy of 1 of 1 GPUs: the exporter's samples are too far apart here"
    ]
    context.duration_s = 5.0
    assert watch.of(context, cards).notices == [
        "1 of 1 accelerators have fewer than two samples inside the point: no figures"
    ]


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
            settle_s=20.0,
            ready_s=40.0,
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
