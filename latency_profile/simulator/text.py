"""Tokens and words: prompts counted with a real tokenizer, answers made of whole words of its vocabulary."""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

RING = 4096  # words in the ring; a power of two
MASK = RING - 1
_CANDIDATES = 8192  # whole words that are tried; enough to find hundreds that stand for themselves
_FEWEST = 16
_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>")


class Vocabulary:
    """A tokenizer, and an endless text of its words.

    Answers are slices of one ring of words, shuffled by the seed: word k of an answer is `ring[(offset + k) % RING]`.
    Each is " word", one token by itself and after any other: an answer's text has as many tokens as were generated.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        """Raises ValueError where the file is no tokenizer, or has too few whole words."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{path} is no tokenizer.json: {error}") from error
        words = self._whole_words()
        if len(words) < _FEWEST:
            raise ValueError(f"{path} has {len(words)} whole words that are one token; {_FEWEST} are needed")
        ring = [words[i % len(words)] for i in range(RING)]
        random.Random(seed).shuffle(ring)
        self.texts = [f" {word}" for word, _ in ring]
        self.ids = [token for _, token in ring]
        self.encoded = [msgspec.json.encode(text)[1:-1] for text in self.texts]  # JSON strings without their quotes
        specials = (self._tokenizer.token_to_id(token) for token in _END_TOKENS)
        self.end_id: int = next((token for token in specials if token is not None), 0)

    def encode(self, text: str) -> list[int]:
        """The ids of a prompt, with the special tokens that the tokenizer adds by itself (as vLLM counts them)."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def answer_ids(self, offset: int, start: int, count: int) -> list[int]:
        return [self.ids[(offset + k) & MASK] for k in range(start, start + count)]

    def answer_text(self, offset: int, start: int, count: int) -> str:
        """The text of some tokens of an answer."""
        return "".join([self.texts[(offset + k) & MASK] for k in range(start, start + count)])

    def answer_json(self, offset: int, start: int, count: int) -> bytes:
        """The text of some tokens of an answer, inside a JSON string."""
        return b"".join([self.encoded[(offset + k) & MASK] for k in range(start, start + count)])

    def _whole_words(self) -> list[tuple[str, int]]:
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=False)
        spelled = (
            (token.lstrip("Ġ▁"), number) for token, number in sorted(vocabulary.items(), key=lambda item: item[1])
        )
        candidates: Sequence[tuple[str, int]] = [
            (word, number) for word, number in spelled if len(word) > 1 and word.isascii() and word.isalpha()
        ][:_CANDIDATES]
        twice = self._tokenizer.encode_batch([f" {word} {word}" for word, _ in candidates], add_special_tokens=False)
        return [
            candidate
            for candidate, encoding in zip(candidates, twice, strict=True)
            if encoding.ids == [candidate[1], candidate[1]]
        ]
