"""A few of very many texts, evenly spread over them, in bounded memory."""

import msgspec

CHARACTERS_A_TEXT = 10_000  # what all texts of a sample together may have, for each that it may hold


class Text(msgspec.Struct):
    """The text of one answer."""

    index: int  # of its request
    text: str


class TextSample:
    """Every n-th of the answers that are offered; n doubles whenever there is no room for more.

    Which answers are kept depends on their order and lengths alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_characters = most * CHARACTERS_A_TEXT
        self._every = 1
        self._offered = 0
        self._characters = 0
        self._kept: list[tuple[int, Text]] = []  # with its place among all that were offered

    @property
    def wants_next(self) -> bool:
        """Whether the next answer is one of those to be kept."""
        return self._most > 0 and self._offered % self._every == 0

    @property
    def texts(self) -> list[Text]:
        """What is kept by now, in the order in which it was offered."""
        return [text for _, text in self._kept]

    def offer(self, text: Text | None) -> None:
        """The next answer; None for one without a text to compare."""
        place, wanted = self._offered, self.wants_next
        self._offered += 1
        if text is None or not wanted or len(text.text) > self._most_characters:
            return
        self._kept.append((place, text))
        self._characters += len(text.text)
        while len(self._kept) > self._most or self._characters > self._most_characters:
            self._every *= 2
            self._kept = [(at, kept) for at, kept in self._kept if at % self._every == 0]
            self._characters = sum(len(kept.text) for _, kept in self._kept)
