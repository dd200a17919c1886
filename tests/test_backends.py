"""What holds for every backend and every door: what they say of themselves, refusals, and bytes that mean nothing."""

import contextlib
import inspect
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backends
from backends.base import SAMPLING, BadAnswer, Door, Options, Unsupported
from backends.json_door import merged
from tests.backend_cases import DATA, REQUEST, body_of, door

DOORS = {
    "vllm": ["completions", "chat"],
    "tgi": ["generate", "completions", "chat"],
    "naive_transformers": ["predict", "completions", "chat"],
    "tensorrt_llm_triton": ["generate"],
    "sax": ["generate"],
    "jetstream": ["generate", "v1"],
    "sglang": ["generate", "completions", "chat"],
    "llamacpp": ["completion", "completions", "chat"],
    "openai": ["completions", "chat", "reasoning"],
}
EVERY = [(backend, name) for backend, names in DOORS.items() for name in names]
ASKED: dict[str, Any] = {"ignore_eos": True, "best_of": 3, "use_beam_search": True, "top_k": 5, "temperature": 0.5}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def http_doors(backend: str) -> list[str]:
    return [name for name, make in backends.load(backend).doors.items() if make.stream_framing != "grpc"]


def plain(backend: str, name: str) -> Door:
    """The door as it can be made without asking for anything more."""
    return door(backend, name, Options(stream=not backends.load(backend).doors[name].traits.answers_whole))


def test_the_backends_and_their_doors() -> None:
    assert tuple(DOORS) == backends.NAMES
    for name in backends.NAMES:
        backend = backends.load(name)
        assert backend.name == name and backend.title
        assert http_doors(name) == DOORS[name]
    with pytest.raises(KeyError):
        backends.load("no-such-server")


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_a_door_is_found_by_its_name_its_path_and_at_another(backend: str, name: str) -> None:
    loaded = backends.load(backend)
    make = loaded.doors[name]
    options = Options(stream=not make.traits.answers_whole)
    assert type(loaded.choose(name, options).door) is make
    elsewhere = loaded.choose(f"{name}=/team/v2", options)
    assert (type(elsewhere.door), elsewhere.path_for("m")) == (make, "/team/v2")
    with pytest.raises(KeyError):
        loaded.choose(f"{name}=team/v2", options)
    path = make.path.replace("{model}", "m")
    first = next(each for each in loaded.doors.values() if each.path == make.path)  # two of OpenAI's share their path
    for spelled in (path, path.strip("/"), path + "/"):
        chosen = loaded.choose(spelled, options)
        assert (type(chosen.door), chosen.path_for("m")) == (first, path)


@pytest.mark.parametrize("backend", DOORS)
def test_generate_is_the_first_door(backend: str) -> None:
    chosen = backends.load(backend).choose("generate", Options())
    assert chosen.name == DOORS[backend][0]
    with pytest.raises(KeyError):
        backends.load(backend).choose("embeddings", Options())


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_what_a_door_says_of_itself(backend: str, name: str) -> None:
    make = backends.load(backend).doors[name]
    traits = make.traits
    assert traits.settings <= set(SAMPLING)
    assert traits.streams or traits.answers_whole
    assert traits.exact_length == ("ignore_eos" in traits.settings), "a length that is kept is asked for with it"
    assert traits.chat == ("chat" in make.path)
    assert traits.counts.endswith("tokenizer") and traits.verified and inspect.getdoc(make)
    assert re.fullmatch(r"(/[\w{}.]+)+", make.path) and (traits.streams or make.stream_path is None)


@pytest.mark.parametrize(("backend", "name"), EVERY)
@pytest.mark.parametrize("setting", SAMPLING)
@pytest.mark.parametrize("stream", [False, True])
def test_a_setting_is_in_the_request_or_refused(backend: str, name: str, setting: str, stream: bool) -> None:
    """Never dropped: a door either writes something that it would not have written, or says which flag it cannot."""
    traits = backends.load(backend).doors[name].traits
    if not (traits.streams if stream else traits.answers_whole):
        with pytest.raises(Unsupported, match=r"^--stream-request (has no counterpart in|is needed for) /"):
            door(backend, name, stream=stream)
        return
    without = body_of(backend, name, stream=stream)
    try:
        asked = body_of(backend, name, stream=stream, **{setting: ASKED[setting]})
    except Unsupported as error:
        flag = setting.replace("_", "-")
        assert re.fullmatch(rf"--{flag} has no counterpart in .+", str(error))
        assert setting not in traits.settings or setting in ("best_of", "use_beam_search"), "these depend on others"
    else:
        assert setting in traits.settings
        assert asked != without


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_the_users_own_fields_are_a_merge_patch(backend: str, name: str) -> None:
    made = plain(backend, name)
    before = json.loads(made.body(REQUEST))
    gone = next(iter(before))
    patch = {gone: None, "logit_bias": {"50256": -100, "7": None}, "nonsense": ["é", None]}
    after = body_of(backend, name, stream=made.stream, extra_body=patch)
    del before[gone]
    assert after == before | {"logit_bias": {"50256": -100}, "nonsense": ["é", None]}


def test_a_patch_reaches_into_objects() -> None:
    parameters = {"max_new_tokens": 9, "do_sample": True, "top_p": 0.9}
    body = body_of("tgi", extra_body={"parameters": {"details": None, "top_p": 0.9}})
    assert body == {"inputs": REQUEST.prompt, "parameters": parameters}


@pytest.mark.parametrize(  # RFC 7396, appendix A, of those whose target and patch are objects
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_merge_patches(target: Any, patch: Any, result: Any) -> None:
    before = json.dumps(target)
    assert merged(target, patch) == result
    assert json.dumps(target) == before


@given(st.dictionaries(TEXT, JSON), st.dictionaries(TEXT, JSON))
def test_a_patch_twice_is_a_patch_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once
    assert merged(target, {}) == target


@pytest.mark.parametrize(("backend", "name"), EVERY)
@settings(max_examples=40)
@given(prompt=TEXT, length=st.integers(1, 1 << 20))
def test_any_prompt_survives_the_wire(backend: str, name: str, prompt: str, length: int) -> None:
    body = json.loads(plain(backend, name).body(replace(REQUEST, prompt=prompt, output_length=length)))
    leaves = list(leaves_of(body))
    assert prompt in leaves and length in leaves


def leaves_of(value: Any) -> Any:
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from leaves_of(below)
    else:
        yield value


MEANINGLESS = [
    b"",
    b"null",
    b"[]",
    b"5",
    b"<html><title>502 Bad Gateway</title></html>",
    b"{}",
    b'{"something":"else"}',
    b"\xff",
    b'{"error":"\xff"}',
    b'{"error":' + b"[" * 100_000,
    b'{"something":' + b"[" * 100_000,
    b'{"error":' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_what_is_in_no_protocol(backend: str, name: str) -> None:
    made = plain(backend, name)
    for payload in MEANINGLESS:
        with pytest.raises(BadAnswer):
            made.read(payload)


@pytest.mark.parametrize(("backend", "name"), EVERY)
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"error":"no room"}', "no room"),
        (b'{"error":{"message":"no room","code":7}}', "no room"),
        (b'{"error":{"code":7}}', "{'code': 7}"),
        (b'{"error":["no","room"]}', "['no', 'room']"),
    ],
)
def test_an_error_is_told(backend: str, name: str, payload: bytes, message: str) -> None:
    piece = plain(backend, name).read(payload)
    assert piece.error == message
    assert not piece.choice and not piece.text and piece.finish is None


def recorded(backend: str, name: str) -> list[bytes]:
    """Real events that some door of this kind reads, as seeds for the mutations below."""
    folders = {"tensorrt_llm_triton": "triton", "naive_transformers": "tserve"}
    folder = DATA / folders.get(backend, backend)
    return [file.read_bytes()[:4000] for file in sorted(folder.glob("*.body"))] or [b'{"choices":[{"text":"a"}]}']


@pytest.mark.parametrize(("backend", "name"), EVERY)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(backend: str, name: str, data: st.DataObject) -> None:
    made = plain(backend, name)
    seed = data.draw(st.sampled_from(recorded(backend, name)))
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(seed)), st.integers(0, len(seed)))))
    noise = data.draw(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()))
    for payload in (noise, seed[:start] + noise + seed[end:]):
        try:
            piece = made.read(payload)
        except BadAnswer:
            continue
        assert piece.token_ids >= 0 and (piece.total_output is None or 0 <= piece.total_output < 1 << 31)
        for told in piece.times or ():
            assert told is None or 0 <= told < 1 << 62


@pytest.mark.parametrize("backend", DOORS)
@settings(max_examples=60)
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_listing_and_version_is_read_or_refused(backend: str, body: bytes) -> None:
    loaded = backends.load(backend)
    if loaded.read_version is not None:
        assert isinstance(loaded.read_version(body), str | None)
    if loaded.read_models is not None:
        with contextlib.suppress(BadAnswer):
            assert all(isinstance(model, str) for model in loaded.read_models(body))
