"""Profiles of a real JetStream over gRPC: token ids equal its own count, failures are told apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.records import Status, TokenSource
from tests.real_profile import Profiled, metric, profile, send_bodies
from tests.servers import jetstream_server
from tests.servers.jetstream_server import JetStream

pytestmark = pytest.mark.jetstream

REQUESTS = 20
OUTPUT = 4
COUNTER = "mock_generated_tokens_total"


@pytest.fixture(scope="module")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JetStream]:
    if not jetstream_server.installed():
        pytest.skip("no JetStream here: `make test-jetstream` installs it")
    with jetstream_server.serve(tmp_path_factory.mktemp("jetstream") / "server.log") as server:
        yield server


def measure(server: JetStream, folder: Path, *flags: str) -> Profiled:
    return profile(
        folder,
        f"--url={server.url}",
        "--backend=jetstream",
        "--tokenizer=bundled",
        "--input-len=16",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--stream-request",
        *flags,
    )


@pytest.mark.parametrize("load", ["--concurrencies=1", "--concurrencies=8", "--request-rate=20"])
def test_tokens_equal_the_servers_own(jetstream: JetStream, tmp_path: Path, load: str) -> None:
    before = metric(jetstream.metrics_url, COUNTER)
    profiled = measure(jetstream, tmp_path, load)
    rows = profiled.rows
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (rows["token_source"] == TokenSource.TOKEN_IDS).all()
    assert (rows["output_tokens"] == OUTPUT).all()
    assert profiled.tokens_by_events == [OUTPUT] * REQUESTS
    assert metric(jetstream.metrics_url, COUNTER) - before == REQUESTS * OUTPUT
    assert (rows["first_token_ns"] > rows["sent_ns"]).all()
    assert (rows["last_token_ns"] <= rows["end_ns"]).all()


def test_a_method_that_it_has_not(jetstream: JetStream, tmp_path: Path) -> None:
    nope = "--endpoint=decode=/jetstream_proto.Orchestrator/Nope"
    profiled = measure(jetstream, tmp_path, "--concurrencies=1", "--num-prompts=2", nope)
    assert profiled.statuses == {Status.ERROR_EVENT: 2}
    assert "UNIMPLEMENTED: Method not found" in profiled.messages
    assert (profiled.rows["output_tokens"] <= 0).all()
    assert profiled.done.returncode == 4


def test_messages_that_are_no_requests(jetstream: JetStream, tmp_path: Path) -> None:
    """One without a content, one that is no protobuf, one that wants no token; the good one after them is answered."""
    good = b"\x20\x03\x2a\x04\x0a\x02AB"  # DecodeRequest: max_tokens 3, text_content "AB"
    path = "/jetstream_proto.Orchestrator/Decode"
    bodies = [b"\x20\x03", b"\xff\xff", good.replace(b"\x03", b"\x00"), good]
    driven = send_bodies(jetstream.url, tmp_path, "jetstream", "decode", path, *bodies)
    assert driven.statuses == [Status.ERROR_EVENT, Status.ERROR_EVENT, Status.EMPTY, Status.OK]
    assert driven.records["output_tokens"].tolist()[-1] == 3
    said = driven.collected[0].errors["ERROR_EVENT"]
    assert any("TypeError" in line for line in said)
    assert any("Wire format was corrupt" in line for line in said)


def test_a_server_that_dies_in_mid_answer(tmp_path: Path) -> None:
    """The mock engine's later tokens are no characters, and JetStream kills itself when a thread of it fails."""
    if not jetstream_server.installed():
        pytest.skip("no JetStream here: `make test-jetstream` installs it")
    with jetstream_server.serve(tmp_path / "server.log") as server:
        profiled = measure(server, tmp_path / "out", "--concurrencies=4", "--output-len=25", "--num-prompts=12")
    assert Status.OK not in profiled.statuses
    assert profiled.statuses[Status.RESET] + profiled.statuses[Status.TRUNCATED] >= 1, profiled.messages
    assert profiled.statuses[Status.CONNECT_REFUSED] >= 1
    assert max(profiled.tokens_by_events) >= 4  # they had begun
    assert profiled.done.returncode == 4
