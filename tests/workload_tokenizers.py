"""Small tokenizers of the families that models use, trained on text that every Python carries."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

BUNDLED = Path(__file__).parents[1] / "latency_profile" / "simulator" / "tokenizer.json"
TEXTS = [topics[name] for name in sorted(topics)][:40]


def bundled() -> Tokenizer:
    """The embedded server's: byte-level BPE, no special tokens."""
    return Tokenizer.from_file(str(BUNDLED))


def llama3() -> Tokenizer:
    """Byte-level BPE whose pattern keeps a line break with what stands before it, and a BOS."""
    tokenizer = bundled()
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    )
    from tokenizers import Regex

    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return with_template(tokenizer, "<|endoftext|> $A")


def sentencepiece_bpe() -> Tokenizer:
    """Llama 2's: spaces become a mark, nothing splits the text, bytes stand in for unknown letters, a BOS."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # while it is trained
    named = ["<unk>", "<s>", "</s>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=named + letters, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = content["added_tokens"][: len(named)]
    return with_template(Tokenizer.from_str(json.dumps(content)), "<s> $A")


def unigram() -> Tokenizer:
    """T5's: Metaspace, the best path through a unigram model, line breaks as spaces, an EOS after a text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return with_template(tokenizer, "$A </s>")


def wordpiece() -> Tokenizer:
    """BERT's: lower case, no spaces, a special token on both sides."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return with_template(tokenizer, "[CLS] $A [SEP]")


def single_bytes() -> Tokenizer:
    """ByT5's kind: a token a byte."""
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(byte_letters())}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def byte_letters() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def with_template(tokenizer: Tokenizer, single: str) -> Tokenizer:
    named = [name for name in single.split() if name != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in named]
    )
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    make.__name__: make for make in (bundled, llama3, sentencepiece_bpe, unigram, wordpiece, single_bytes)
}


@cache
def content(family: str) -> str:
    """The tokenizer.json of a family."""
    return FAMILIES[family]().to_str()
