# ruff: noqa: RUF009 -- setting() makes a dataclass field
"""What is sent: prompts and lengths."""

from dataclasses import dataclass
from pathlib import Path

from latency_profile.settings import kinds
from latency_profile.settings.kinds import BOOLEAN, COUNT, SECONDS
from latency_profile.settings.rows import required, setting


@dataclass(frozen=True, kw_only=True)
class Workload:
    tokenizer: str = required(
        kinds.text("the name or path of a tokenizer"),
        "Name or path of the tokenizer. You can specify the model ID in HuggingFace for the tokenizer of a model.",
    )
    trust_remote_code: bool = setting(BOOLEAN, False, "Let a tokenizer from the hub run its own code.")
    dataset: Path | None = setting(
        kinds.path("a data set file"),
        None,
        "Path to the dataset. ShareGPT JSON, or JSON Lines of prompt and output_len.",
        aliases=("--dataset-path",),
        script="PROMPT_DATASET_FILE",
    )
    use_dummy_text: bool = setting(
        BOOLEAN, False, "No data set: dummy prompts of --max-input-length tokens, answers of --max-output-length."
    )
    input_len: int | None = setting(
        COUNT, None, "No data set: synthetic prompts of this (mean) length. Goes with --output-len.", unit="tokens"
    )
    input_len_stddev: float = setting(
        SECONDS, 0.0, "Standard deviation of synthetic input lengths (normal distribution).", unit="tokens"
    )
    input_len_min: int | None = setting(COUNT, None, "Least synthetic input length.", unit="tokens")
    input_len_max: int | None = setting(COUNT, None, "Greatest synthetic input length.", unit="tokens")
    output_len: int | None = setting(
        COUNT, None, "Wanted (mean) output length of synthetic requests. Goes with --input-len.", unit="tokens"
    )
    output_len_stddev: float = setting(
        SECONDS, 0.0, "Standard deviation of synthetic output lengths (normal distribution).", unit="tokens"
    )
    output_len_min: int | None = setting(COUNT, None, "Least synthetic output length.", unit="tokens")
    output_len_max: int | None = setting(COUNT, None, "Greatest synthetic output length.", unit="tokens")
    max_input_length: int = setting(
        COUNT,
        1024,
        "Maximum number of input tokens for filtering the benchmark dataset.",
        unit="tokens",
        script="INPUT_LENGTH",
    )
    max_output_length: int = setting(
        COUNT, 1024, "Maximum number of output tokens.", unit="tokens", script="OUTPUT_LENGTH"
    )
    num_prompts: int = setting(
        COUNT,
        1000,
        "Number of prompts to process at each point. With --benchmark-time-seconds, a finite rate takes its number "
        "from that time instead.",
        script="MAX_NUM_PROMPTS",
    )
    traffic_split: tuple[float, ...] | None = setting(
        kinds.listed(kinds.number(above=0), "numbers above 0, separated by commas, that sum to 1"),
        None,
        "Comma-separated list of traffic split proportions for the models, e.g. '0.9,0.1'. Sum must equal 1.0 (within "
        "0.000001). Equal shares where it is not given.",
    )
    unique_prompts: bool = setting(
        BOOLEAN,
        True,
        "Make every prompt differ from its first tokens on, so that no prefix cache helps; --no-unique-prompts sends "
        "a data set's text as it is.",
    )
    shared_prefix: int = setting(
        kinds.whole(0),
        0,
        "Begin every prompt with so many tokens that its whole group shares, so that a prefix cache helps as it is "
        "meant to. They are others in every run, part of --input-len, and come before a data set's text.",
        unit="tokens",
    )
    shared_prefix_groups: int = setting(COUNT, 1, "Groups of prompts, in turn, each with a shared prefix of its own.")
    nonce: str | None = setting(
        kinds.hex_digits("1 to 64 hexadecimal digits"),
        None,
        "What makes prompts unique from one run to the next. Drawn anew for each run where it is not given.",
    )
    seed: int = setting(
        kinds.whole(0), 0, "Seed of arrival times, prompt order and lengths. The same seed gives the same plan."
    )
    cache_dir: Path | None = setting(
        kinds.path("a folder"), None, "Where prepared data sets are kept. latency-profile in the user's cache folder."
    )
