"""Lengths of data sets: the forms, what rows lack, the statistics, the import, and the flags that come of it."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer as Backend

from latency_profile.datasets import hub
from latency_profile.datasets.command import command
from latency_profile.datasets.estimate import correlation, described, law
from latency_profile.datasets.forms import form_of
from latency_profile.datasets.law import Moments, moments, nearest
from latency_profile.datasets.pairs import Columns, Source, sample
from latency_profile.datasets.rows import rows_of
from latency_profile.datasets.text import log2_bins
from latency_profile.errors import Exit, ServerUnavailable, UsageError
from latency_profile.parts import workload_spec
from latency_profile.settings import load
from latency_profile.workload import WorkloadSpec, prepare
from tests.tool import schema
from tests.workload_tokenizers import BUNDLED, llama3

SENTENCE = "Please explain how the parser reads one line of the file. "
BUNDLE = "--tokenizer=bundled"


def orca(number: int) -> dict[str, Any]:
    return {
        "id": f"niv.{number}",
        "system_prompt": "You are an AI assistant." if number % 2 else "",
        "question": f"Question {number}: {SENTENCE * (number % 7 + 1)}",
        "response": f"Answer {number}: {SENTENCE * (number % 5 + 1)}",
    }


def mbpp(number: int) -> dict[str, Any]:
    text = f"Write a function to find the {number}th number of the list."
    return {
        "task_id": number,
        "text": text,
        "code": "def f(x):\r\n    return x\r\n" * (number % 4 + 1),
        "test_list": ["a"],
    }


def math_500(number: int) -> dict[str, Any]:
    problem = f"Convert the point $(0,{number})$ in rectangular coordinates to polar coordinates."
    solution = f"We have that $r = {number}.$ " * (number % 3 + 1)
    return {"problem": problem, "solution": solution, "answer": "x", "subject": "Precalculus", "level": 2}


def sharegpt(number: int) -> dict[str, Any]:
    values = [f"Question {number}: {SENTENCE}", f"Answer {number}: {SENTENCE * 2}", "more"]
    return {"id": str(number), "conversations": [{"from": "x", "value": value} for value in values]}


def slim_orca(number: int) -> dict[str, Any]:
    made = sharegpt(number)
    system = {"from": "system", "value": SENTENCE, "weight": None}
    return {"conversations": [system, *made["conversations"][:2]] if number % 3 else made["conversations"]}


def write(path: Path, rows: list[dict[str, Any]], form: str = "jsonl") -> Path:
    if form == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.DictWriter(file, list(rows[0]))
            lines.writeheader()
            lines.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: str | Path) -> Exit:
    return command([str(argument) for argument in arguments], {})


def estimated(folder: Path, source: Path, *flags: str) -> dict[str, Any]:
    name = f"found-{len(list(folder.iterdir()))}.json"
    assert run("estimate", source, BUNDLE, "-o", folder / name, *flags) == Exit.DONE
    found: dict[str, Any] = json.loads((folder / name).read_text())
    jsonschema.validate(found, schema("estimate"))
    return found


def tokens(texts: list[str]) -> list[int]:
    backend = Backend.from_file(str(BUNDLED))
    return [len(backend.encode(text).ids) for text in texts]


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
@pytest.mark.parametrize(
    ("name", "row", "prompt", "answer"),
    [
        ("orca", orca, lambda row: f"{row['system_prompt']}\n\n{row['question']}".lstrip("\n"), "response"),
        ("mbpp", mbpp, lambda row: row["text"], "code"),
        ("math-500", math_500, lambda row: row["problem"], "solution"),
    ],
)
def test_the_three_sets_in_each_kind_of_file(
    tmp_path: Path, form: str, name: str, row: Any, prompt: Any, answer: str
) -> None:
    rows = [row(number) for number in range(40)]
    found = estimated(tmp_path, write(tmp_path / "data", rows, form))
    assert (found["form"], found["rows"]["used"], found["input"]["n"], found["output"]["n"]) == (name, 40, 40, 40)
    for side, texts in (("input", [prompt(row) for row in rows]), ("output", [row[answer] for row in rows])):
        counted = np.array(tokens(texts))
        one = found[side]
        assert one["mean"] == pytest.approx(counted.mean()) and one["sd"] == pytest.approx(counted.std(ddof=1))
        assert [one["min"], one["p50"], one["p90"], one["p99"], one["max"]] == pytest.approx(
            np.percentile(counted, [0, 50, 90, 99, 100]).tolist()
        )
        assert dict(map(tuple, one["histogram"])) == {n: int((counted == n).sum()) for n in set(counted.tolist())}


def test_an_estimate_and_an_import_agree_with_the_profile(tmp_path: Path) -> None:
    for number, row in enumerate((orca, mbpp, math_500, sharegpt, slim_orca)):
        file = write(tmp_path / f"set{number}", [row(each) for each in range(30)])
        lines = tmp_path / f"imported{number}.jsonl"
        assert run("import", file, "-o", lines) == Exit.DONE
        found = estimated(tmp_path, file)
        assert estimated(tmp_path, lines)["input"] == found["input"]
        assert estimated(tmp_path, lines)["output"] == found["output"]
        given = load(
            [BUNDLE, f"--dataset={lines}", "--models=m", f"--cache-dir={tmp_path}", *found["dataset_flags"]], {}
        )
        workload = prepare(workload_spec(given, ("m",), "0"), 30)
        assert workload.description["items_dropped"] == {}
        spec = WorkloadSpec(
            tokenizer="bundled", dataset=lines, models=("m",), nonce="0", unique=False, cache_dir=tmp_path
        )
        requests = list(prepare(spec, 30).requests(0, 30))
        assert np.mean([request.input_length for request in requests]) == pytest.approx(found["input"]["mean"])
        assert np.mean([request.output_length for request in requests]) == pytest.approx(found["output"]["mean"])


@pytest.mark.parametrize("special", [False, True])
def test_rows_that_a_profile_leaves_out_are_counted(
    tmp_path: Path, special: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["a", "a b", "a b c", "a b c d", SENTENCE]
    rows = [{"problem": one, "solution": other} for one in words for other in words]
    tokenizer = "bundled"
    if special:
        tokenizer = str(tmp_path / "tokenizer.json")
        llama3().save(tokenizer)
    file, lines, target = write(tmp_path / "data", rows), tmp_path / "lines.jsonl", tmp_path / "found.json"
    assert run("estimate", file, f"--tokenizer={tokenizer}", "-o", target) == Exit.DONE
    found = json.loads(target.read_text())["rows"]
    assert run("import", file, "-o", lines) == Exit.DONE
    spec = WorkloadSpec(tokenizer=tokenizer, dataset=lines, models=("m",), nonce="0", cache_dir=tmp_path)
    dropped = prepare(spec, 25).description["items_dropped"]
    assert found["used"] == 25 and found["too_short"] == sum(dropped.values()) > 9
    assert f"leaves out what is so short: {found['too_short']} rows" in capsys.readouterr().out


def test_a_prompt_counts_with_the_special_tokens_around_it_and_an_answer_without(tmp_path: Path) -> None:
    backend = llama3()
    backend.save(str(tmp_path / "tokenizer.json"))
    rows = [orca(number) for number in range(0, 20, 2)]  # those without a system prompt
    target = tmp_path / "found.json"
    tokenizer = f"--tokenizer={tmp_path / 'tokenizer.json'}"
    assert run("estimate", write(tmp_path / "data", rows), tokenizer, "-o", target) == Exit.DONE
    found = json.loads(target.read_text())
    for side, column, special in (("input", "question", True), ("output", "response", False)):
        counts = [len(backend.encode(row[column], add_special_tokens=special).ids) for row in rows]
        assert found[side]["mean"] == pytest.approx(np.mean(counts))


def test_the_synthetic_flags_are_taken_by_the_profile_and_have_the_datas_mean(tmp_path: Path) -> None:
    skewed = [{"prompt": "word " * int(3 + 1.06**number), "output_len": 5 + number} for number in range(80)]
    found = estimated(tmp_path, write(tmp_path / "data", skewed))
    flags = found["synthetic_input"]["flags"] + found["synthetic_output"]["flags"]
    workload = prepare(workload_spec(load([BUNDLE, "--models=m", *flags], {}), ("m",), "0"), 4000)
    requests = list(workload.requests(0, 4000))
    for side, lengths in (
        ("input", np.array([request.input_length for request in requests])),
        ("output", np.array([request.output_length for request in requests])),
    ):
        error = lengths.std() / math.sqrt(len(lengths))
        assert abs(lengths.mean() - found[side]["mean"]) < 0.5 + 4 * error
        assert abs(lengths.mean() - found[f"synthetic_{side}"]["mean"]) < 4 * error
        assert lengths.std() == pytest.approx(found[f"synthetic_{side}"]["sd"], rel=0.06)
        assert lengths.max() <= found[side]["max"]
    assert found["input"]["normal"]["share_below_1"] > 0.1  # what the plain normal distribution does to it


def test_what_rows_lack_is_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [orca(number) for number in range(5)]
    lacking = [
        {**orca(8), "question": " "},
        {**orca(9), "response": None},
        {"question": "q"},
        {**orca(7), "question": 5},
    ]
    content = json.dumps([*good, *lacking, good[0], {**orca(6), "question": "half \ud83d"}])
    (tmp_path / "data").write_text(content)
    found = estimated(tmp_path, tmp_path / "data")
    assert found["rows"] == {
        "rows": 11,
        "not_unicode": 1,
        "no_prompt": 2,
        "no_answer": 2,
        "duplicate_prompts": 1,
        "used": 6,
        "too_short": 0,
        "sample": None,
        "seed": None,
    }
    out = capsys.readouterr().out
    for what, number in (("have no prompt", 2), ("have no answer", 2), ("are not valid Unicode", 1)):
        assert f"left out, as they {what}: {number} rows" in out
    assert "though their prompt came before: 1 rows" in out
    assert run("import", tmp_path / "data", "-o", tmp_path / "out.jsonl") == Exit.DONE
    out = capsys.readouterr().out
    assert "6 of 11 rows" in out and "2 without a prompt, 2 without an answer, 1 without valid Unicode" in out
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6


def test_columns_of_ones_own(tmp_path: Path) -> None:
    rows = [{"a": f"system {n}", "b": SENTENCE, "c": "yes " * (n + 1), "n": n + 1} for n in range(6)]
    file = write(tmp_path / "own.csv", rows, "csv")
    named = ("--prompt-column=a", "--prompt-column=b")
    found = estimated(tmp_path, file, *named, "--answer-column=c")
    assert found["prompt_columns"] == ["a", "b"] and found["answer_column"] == "c"
    assert found["input"]["mean"] == np.mean(tokens([f"{row['a']}\n\n{row['b']}" for row in rows]))
    found = estimated(tmp_path, file, *named, "--output-len-column=n")
    assert (found["output"]["min"], found["output"]["max"], found["output"]["mean"]) == (1, 6, 3.5)
    assert run("import", file, "-o", tmp_path / "out", *named, "--output-len-column=n") == Exit.DONE
    assert json.loads((tmp_path / "out").read_text().splitlines()[2]) == {
        "prompt": f"system 2\n\n{SENTENCE}",
        "output_len": 3,
    }
    found = estimated(tmp_path, file, *named)
    assert found["output"] is found["correlation"] is found["synthetic_output"] is None


def test_output_lengths_as_tables_have_them_and_no_longer_than_a_profile_takes(tmp_path: Path) -> None:
    lengths = {"12": 12, "12.0": 12, "12.5": None, "0": None, "-3": None, "3000000000": None, "9" * 5000: None}
    texts = [f"Prompt {number} {SENTENCE}" for number in range(len(lengths))]
    rows = zip(texts, lengths, strict=True)
    files = {
        "lines": "".join(f'{{"prompt": "{text}", "output_len": {length[:400]}}}\n' for text, length in rows),
        "table": "prompt,output_len\n" + "".join(f"{a},{b}\n" for a, b in zip(texts, lengths, strict=True)),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        found = estimated(tmp_path, tmp_path / name)
        assert (found["input"]["n"], found["output"]["n"], found["output"]["mean"]) == (7, 2, 12)
        lines = tmp_path / f"{name}.jsonl"
        assert run("import", tmp_path / name, "-o", lines) == Exit.DONE
        spec = WorkloadSpec(tokenizer="bundled", dataset=lines, models=("m",), nonce="0", cache_dir=tmp_path)
        assert sorted(r.output_length for r in prepare(spec, 7).requests(0, 7)) == [12, 12, *[1024] * 5]


def test_lengths_that_another_tool_calls_max_tokens(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"1 {SENTENCE}", "category": "coding", "max_tokens": 256},
        {"prompt": f"2 {SENTENCE}", "category": "math", "max_tokens": 512, "output_len": 128},
    ]
    file = write(tmp_path / "benchmark_dataset.json", rows, "json")
    found = estimated(tmp_path, file)
    assert found["output"]["histogram"] == [[128, 1], [256, 1]]
    assert run("import", file, "-o", tmp_path / "out.jsonl") == Exit.DONE
    assert [json.loads(line)["output_len"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [256, 128]


def test_a_sample_is_the_seeds_and_keeps_the_order(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [mbpp(number) for number in range(200)])
    places: set[int] = set()
    for seed in range(12):
        pairs = list(sample(Source(file, Columns()).pairs(), 25, seed))
        numbers = [int(pair.prompt.split("the ")[1].split("th")[0]) for pair in pairs if pair.prompt]
        assert len(numbers) == 25 and numbers == sorted(set(numbers))
        assert pairs == list(sample(Source(file, Columns()).pairs(), 25, seed))
        places.update(numbers)
    assert len(places) > 130  # 200 * (1 - (7/8)^12) = 160 are expected
    assert len(list(sample(Source(file, Columns()).pairs(), 9999, 0))) == 200
    found = estimated(tmp_path, file, "--sample=25", "--seed=3")
    assert (found["rows"]["rows"], found["rows"]["used"], found["rows"]["seed"]) == (200, 25, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        (" \n", "only white space"),
        ("[]", "the list is empty"),
        ("a,b\n", "it has no rows"),
        ("a,b\n1,2\n", "its columns (a, b) are of no known form (sharegpt: conversations; orca:"),
        ("text,code\n1,2,3\n", "line 2 has more values than the heading"),
        ('text,code\n"1,2\n', "malformed CSV, line"),
        ("text,code\n\xff,2\n", "no UTF-8 after line"),
        ("\ntext,code\na,b\n", "line 1 names no columns"),
        ('"a long\ntext' + " and more" * 99 + '",b\n1,2\n', "its columns (a long text and more"),
        ("text,code,text\na,b,c\n", "two columns are called 'text'"),
        ("\x1f\x8b\x08\0\0", "packed by gzip; unpack it first"),
        ("\xff\xfe[\0]\0", "UTF-16; write it as UTF-8"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "malformed JSON, line 1"),
        ('{"text": "a", "code": "b"}\n{"text": }', "malformed JSON, line 2"),
        ('{"text": "a", "code": "b"}\n[1]', "item 2 (line 2) is no object with columns"),
        (
            '{"text": "", "code": "b"}\n{"text": "a", "code": null}',
            "none of its 2 rows can be used: 1 without a prompt, 1",
        ),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "data"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError) as caught:
        run("estimate", file, BUNDLE)
    said = str(caught.value)
    assert said.startswith(str(file)) and words in said and "\n" not in said and len(said) < 700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "dataset: got nothing, takes one of estimate, import, generate"),
        (["count"], "dataset: got 'count'"),
        (["estimate", "data"], "dataset: the following arguments are required: --tokenizer"),
        (["import", "data"], "-o/--output"),
        (["estimate", "none", BUNDLE], "none: no such file"),
        (["estimate", ".", BUNDLE], ".: a folder"),
        (["estimate", "data", BUNDLE, "--sample=0"], "--sample: got '0', takes a whole number, 1 or more"),
        (["estimate", "data", BUNDLE, "--seed=x"], "--seed: got 'x'"),
        (["estimate", "data", BUNDLE, "--answer-column=c"], "each takes --prompt-column beside it"),
        (
            ["import", "data", "-o", "x", "--prompt-column=text", "--answer-column=code", "--output-len-column=n"],
            "--answer-column and --output-len-column: takes one of the two",
        ),
        (
            ["estimate", "data", BUNDLE, "--prompt-column=text", "--answer-column=cod"],
            "no row has a column cod; there are",
        ),
        (["estimate", "data", BUNDLE, "-o", "."], "--output: got '.', takes a file's name"),
        (["estimate", "hf://x", BUNDLE], "hf://x: no name on the hub; it takes a file"),
    ],
)
def test_bad_flags_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", [mbpp(1)])
    with pytest.raises(UsageError) as caught:
        run(*arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "data", [mbpp(1)])
    (tmp_path / "out.jsonl").write_text("mine")
    assert run("import", file, "-o", tmp_path / "out.jsonl") == Exit.DONE
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert str(tmp_path / "out-2.jsonl") in capsys.readouterr().out


def test_parquet_says_what_it_takes_or_is_read(tmp_path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        (tmp_path / "data").write_bytes(b"PAR1....PAR1")
        with pytest.raises(UsageError, match="takes the package pyarrow, which is not installed"):
            run("estimate", tmp_path / "data", BUNDLE)
        return
    rows = [orca(number) for number in range(3000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data")
    assert list(rows_of(tmp_path / "data")) == rows
    conversations = [sharegpt(number) for number in range(10)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(conversations), tmp_path / "other")
    assert estimated(tmp_path, tmp_path / "other")["form"] == "sharegpt"
    text, offsets = pyarrow.py_buffer(b"good\xff\xfe"), pyarrow.array([0, 4, 6], pyarrow.int32()).buffers()[1]
    dated = {
        "prompt": pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, text]),
        "output_len": pyarrow.array([12.0, 13.0]),
        "created": pyarrow.array([1, 2], pyarrow.timestamp("ns")),  # datetime has no such time
    }
    pyarrow.parquet.write_table(pyarrow.table(dated), tmp_path / "dated")
    assert list(rows_of(tmp_path / "dated")) == [{"prompt": "good", "output_len": 12.0}, None]
    assert estimated(tmp_path, tmp_path / "dated")["rows"]["not_unicode"] == 1
    content = (tmp_path / "dated").read_bytes()
    (tmp_path / "damaged").write_bytes(content.replace(b"output_len", b"output\xfflen"))
    with pytest.raises(UsageError, match="malformed Parquet"):
        list(rows_of(tmp_path / "damaged"))
    (tmp_path / "damaged").write_bytes((tmp_path / "data").read_bytes()[:-9])
    with pytest.raises(UsageError, match="malformed Parquet"):
        run("estimate", tmp_path / "damaged", BUNDLE)


def test_the_hub_is_asked_for_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    file = write(tmp_path / "data", [mbpp(1)])
    asked: list[tuple[str, str]] = []
    files = ["README.md", "data/train.jsonl"]

    def download(repository: str, name: str, repo_type: str) -> str:
        assert repo_type == "dataset"
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    for source in ("mbpp", "hf://me/set", "hf://me/set/a/b.csv"):
        assert hub.local(source) == file
    assert asked == [("Muennighoff/mbpp", "data/mbpp.jsonl"), ("me/set", "data/train.jsonl"), ("me/set", "a/b.csv")]
    files.append("data/test.parquet")
    with pytest.raises(UsageError, match=r"several files; name one as hf://me/set/FILE: data/train.jsonl, data/test"):
        hub.local("hf://me/set")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mbpp").touch()
    assert hub.local("mbpp") == Path("mbpp") and len(asked) == 3  # a file of that name is the file

    def unreachable(*_: object, **__: object) -> str:
        raise errors.LocalEntryNotFoundError("no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(ServerUnavailable, match="orca: the Hugging Face hub cannot be reached") as caught:
        hub.local("orca")
    assert caught.value.exit_code == Exit.UNAVAILABLE


def test_forms_are_told_by_their_columns() -> None:
    assert [form_of(row(1)).name for row in (orca, mbpp, math_500, sharegpt)] == [
        "orca",
        "mbpp",
        "math-500",
        "sharegpt",
    ]
    assert form_of(["prompt", "code", "task_id"]).name == "mbpp-sanitized"
    assert form_of(["prompt", "category", "output_len"]).name == "prompts"
    assert form_of(["question", "answer"]) is None


LENGTHS = st.lists(st.integers(1, 5000), min_size=3, max_size=60)


@given(LENGTHS)
def test_the_description_is_that_of_scipy(lengths: list[int]) -> None:
    values = np.array(lengths)
    found = described(values)
    assert found.mean == pytest.approx(values.mean()) and found.sd == pytest.approx(values.std(ddof=1), abs=1e-9)
    assert sum(rows for _, rows in found.histogram) == found.n == len(lengths)
    assert found.mean_low <= found.mean <= found.mean_high
    assert sum(rows for _, _, rows in log2_bins(found.histogram)) == found.n
    if found.sd == 0:
        assert found.normal is None
        return
    law_of = stats.norm(found.mean, found.sd)
    assert found.normal.share_below_1 == pytest.approx(law_of.cdf(0.5), abs=1e-12)
    every = np.arange(-1, values.max() + 2)  # the distance at each whole number there is
    data = np.searchsorted(np.sort(values), every, side="right") / len(values)
    truth = np.abs(data - law_of.cdf(every + 0.5)).max()
    assert found.normal.ks_distance == pytest.approx(truth, abs=1e-9)


@given(LENGTHS, st.randoms(use_true_random=False))
def test_correlations_are_those_of_scipy(lengths: list[int], random: Any) -> None:
    others = [random.randint(1, 9) for _ in lengths]
    found = correlation(np.array(lengths), np.array(others))
    if len(set(lengths)) == 1 or len(set(others)) == 1:
        assert found.pearson is found.spearman is None
        return
    assert found.pearson == pytest.approx(stats.pearsonr(lengths, others).statistic, abs=1e-9)
    assert found.spearman == pytest.approx(stats.spearmanr(lengths, others).statistic, abs=1e-9)


@given(st.integers(1, 500), st.integers(1, 3000), st.floats(0, 1), st.floats(0.5, 400))
def test_the_nearest_law_has_the_mean_and_as_much_of_the_deviation_as_can_be(
    low: int, width: int, place: float, sd: float
) -> None:
    wanted = Moments(low + place * width, sd)
    near = nearest(wanted, low, low + width)
    if near is None:
        return
    parameters, found = near
    assert low <= parameters.mean <= low + width
    assert abs(found.mean - wanted.mean) <= 0.5 or parameters.sd == 0
    if parameters.sd:
        a, b = ((end - parameters.mean) / parameters.sd for end in (low - 0.5, low + width + 0.5))
        truth = stats.truncnorm(a, b, parameters.mean, parameters.sd)
        assert found.mean == pytest.approx(truth.mean(), rel=1e-6) and found.sd == pytest.approx(truth.std(), rel=1e-4)


def test_a_law_where_there_is_one() -> None:
    exact = nearest(Moments(300, 50), 1, 1000)
    assert exact is not None and exact[0] == (300, 50.0)
    skewed = nearest(Moments(300, 400), 1, 5000)  # a normal law cut off at 1 has at most about 3/4 of its mean
    assert skewed is not None and abs(skewed[1].mean - 300) <= 0.5 and 220 < skewed[1].sd < 230
    assert nearest(Moments(3, 1), 10, 20) is None
    assert moments(1, 0.5, 500, 600) is None
    fixed = law("--input-len", described(np.array([7, 7, 7])), 1)
    assert fixed is not None and fixed.flags == ["--input-len=7"]


def test_the_page_is_plain_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("estimate", write(tmp_path / "data", [orca(number) for number in range(30)]), BUNDLE)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "95 % interval" in out and "█" in out
    assert f"latency-profile dataset import {tmp_path / 'data'} -o prompts.jsonl" in out
    assert "nearest synthetic lengths" in out and "Kolmogorov-Smirnov" in out
