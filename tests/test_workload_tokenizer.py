"""Loading a tokenizer from wherever it is, and saying in one line where it is not."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer as Backend

from latency_profile.errors import ProfileError, UsageError
from latency_profile.workload import Lengths, WorkloadSpec, prepare
from latency_profile.workload import tokenizer as tokenizers
from latency_profile.workload.sharing import BLOCK
from tests.workload_tokenizers import BUNDLED, content

TEXTS = ["The parser reads a line.", "", "x = 1\n" * 50]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and no network."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    return tmp_path / "hub"


def refusal(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        tokenizers.load(name)
    message = str(caught.value)
    assert message.startswith(f"--tokenizer {name}: ")
    assert "\n" not in message and "hf_secret" not in message
    return message


def test_the_bundled_one_is_small_and_knows_words() -> None:
    assert BUNDLED.stat().st_size < 600_000
    loaded = tokenizers.load("bundled")
    assert loaded.counts(["the", " the", "function", " statement"], special=True) == [1] * 4
    assert loaded.counts(TEXTS, special=True) == [
        len(e.ids) for e in Backend.from_file(str(BUNDLED)).encode_batch(TEXTS)
    ]


def test_a_folder_and_a_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content("wordpiece"))
    folder, file = tokenizers.load(str(tmp_path)), tokenizers.load(str(tmp_path / "tokenizer.json"))
    assert folder.sha256 == file.sha256 != tokenizers.load("bundled").sha256
    assert folder.counts(TEXTS, special=True) == file.counts(TEXTS, special=True)


def test_prompts_count_with_special_tokens_and_answers_without(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content("wordpiece"))
    loaded = tokenizers.load(str(tmp_path))
    with_special, without = loaded.counts(TEXTS, special=True), loaded.counts(TEXTS, special=False)
    assert [a - b for a, b in zip(with_special, without, strict=True)] == [2, 2, 2]


def test_truncation_and_padding_in_a_file_do_not_change_counts(tmp_path: Path) -> None:
    backend = Backend.from_file(str(BUNDLED))
    backend.enable_truncation(5)
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenizers.load(str(tmp_path))
    assert loaded.counts(TEXTS, special=True) == tokenizers.load("bundled").counts(TEXTS, special=True)


@pytest.mark.parametrize(("status", "code"), [(None, 3), (429, 3), (503, 3), (401, 2), (403, 2)])
def test_a_hub_that_is_away_is_no_wrong_name(status: int | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod may start before its network does. (The hub's library and transformers try for minutes.)"""
    import huggingface_hub
    import huggingface_hub.constants as hub
    from huggingface_hub import errors

    def refuse(*_: object) -> None:
        if status is None:
            raise errors.LocalEntryNotFoundError("not cached, and no connection")
        error = OSError(f"HTTP status {status}")
        error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
        raise error

    def load_none(*_: object) -> None:
        raise UsageError("--tokenizer some/model: transformers loads none")

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(tokenizers, "_from_transformers", load_none)
    with pytest.raises(ProfileError) as caught:
        tokenizers.load("some/model")
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


def test_batches_of_any_size_keep_order() -> None:
    loaded = tokenizers.load("bundled")
    texts = [" the" * (number % 7) for number in range(1500)] + [" the" * 300_000, " the"]
    assert loaded.counts(texts, special=False) == [*(number % 7 for number in range(1500)), 300_000, 1]


def test_a_model_of_the_hub_comes_from_its_local_cache(offline: Path) -> None:
    snapshot = offline / "models--some--model" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").write_text(content("unigram"))
    refs = offline / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    assert tokenizers.load("some/model").counts(["the class is"], special=True) == [4]


def test_a_model_without_a_tokenizer_json_falls_back_to_transformers(tmp_path: Path) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "class", "is", "##es"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    code = (
        "import sys; from latency_profile.workload import tokenizer;"
        "t = tokenizer.load(sys.argv[1]); print(t.counts(['the classes', 'is'], special=True),"
        "t.counts(['the classes'], special=False), 'transformers' in sys.modules, 'torch' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True, stderr=subprocess.DEVNULL)
    assert out.splitlines()[-1] == "[5, 3] [3] True False"


def test_names_that_lead_nowhere(offline: Path, tmp_path: Path) -> None:
    for name in ("./none", "/none/at/all", "none.json", "two words", "a/b/c"):
        assert "no such file or folder" in refusal(name)
    refusal("no-such/model")
    (tmp_path / "empty").mkdir()
    refusal(str(tmp_path / "empty"))


@pytest.mark.parametrize("text", ["", "hello", "{}", '{"model": {"type": "BPE"}}', "\x00\xff"])
def test_files_that_are_no_tokenizer(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(text, encoding="latin-1")
    assert "no tokenizer.json" in refusal(str(file))


def test_too_few_words_are_refused_unless_none_are_needed(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [],
                "pre_tokenizer": {"type": "Whitespace"},
                "model": {"type": "WordLevel", "vocab": {"one": 0, "two": 1, "<unk>": 2}, "unk_token": "<unk>"},
            }
        )
    )
    (tmp_path / "data").write_text('{"prompt": "one two one two"}')
    common = {"tokenizer": str(tmp_path), "models": ("m",), "nonce": "a", "cache_dir": tmp_path / "cache"}
    for more in ({"dataset": tmp_path / "data"}, {"dummy_text": True, "unique": False}):
        with pytest.raises(UsageError, match="fewer than 16 words"):
            prepare(WorkloadSpec(**common, **more), 1)  # type: ignore[arg-type]
    plain = WorkloadSpec(**common, dataset=tmp_path / "data", unique=False)  # type: ignore[arg-type]
    assert [request.input_length for request in prepare(plain, 1).requests(0, 1)] == [4]


def test_a_real_models_tokenizer(smollm2_tokenizer: Path, tmp_path: Path) -> None:
    backend = Backend.from_file(str(smollm2_tokenizer / "tokenizer.json"))
    runs = []
    for nonce in ("01", "02"):
        spec = WorkloadSpec(
            tokenizer=str(smollm2_tokenizer),
            models=("m",),
            nonce=nonce,
            input_lengths=Lengths(mean=120, stddev=60, low=16, high=400),
            output_lengths=Lengths.fixed(32),
        )
        requests = list(prepare(spec, 300).requests(0, 300))
        encoded = [encoding.ids for encoding in backend.encode_batch([request.prompt for request in requests])]
        assert [len(ids) for ids in encoded] == [request.input_length for request in requests]
        runs.append(encoded)
    assert [len(ids) for ids in runs[0]] == [len(ids) for ids in runs[1]]
    assert len({tuple(ids[:BLOCK]) for ids in runs[0] + runs[1]}) == 600
    assert max(len(prompt.split("\n")[0].split()) for prompt in (request.prompt for request in requests)) == 4
