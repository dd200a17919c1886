"""What prompts a model is asked to write: categories, topics, lengths. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

COUNT = 18
WORDS = (40, 120, 250)  # a prompt's length in words, in turn: a short question, a task, one with material of its own
TOKENS_A_WORD = 4 / 3  # of English, roughly, in vocabularies of today's size
_EARLIER = 12  # prompts of the category that the model is shown, so that it writes another one
_BEGINNING = 90  # characters of each


class Category(NamedTuple):
    """max_output: tokens that an answer to such a prompt may have. what: completes "Write …"."""

    max_output: int
    what: str
    topics: tuple[str, ...]


CATEGORIES: Mapping[str, Category] = {
    "coding": Category(
        1024,
        "a programming task: a function, a program or a repair to be written",
        (
            "text processing",
            "a data structure",
            "concurrency",
            "a database query",
            "a network client",
            "a failing test",
        ),
    ),
    "reasoning": Category(
        768,
        "a problem that takes several steps of reasoning",
        (
            "a schedule with constraints",
            "a logic puzzle",
            "a decision under uncertainty",
            "cause and effect",
            "estimates",
        ),
    ),
    "creative_writing": Category(
        1024,
        "a request for a piece of creative writing, with its subject, form and tone",
        ("a short story", "a poem", "a dialogue", "a letter from another time", "a scene in a strange place"),
    ),
    "summarization": Category(
        256,
        "a request for a summary, followed by the whole text that is to be summarized",
        ("a news report", "minutes of a meeting", "a scientific finding", "a product review", "a chapter of history"),
    ),
    "math": Category(
        768,
        "a problem of mathematics with all numbers that it takes",
        ("algebra", "geometry", "probability", "number theory", "rates and percentages", "optimization"),
    ),
    "question_answering": Category(
        384,
        "a question about the world that has a factual answer",
        ("physics", "biology", "history", "geography", "economics", "technology"),
    ),
    "extraction": Category(
        256,
        "a request to take certain facts out of a text into a table or JSON, followed by the whole text",
        ("an invoice", "a job offer", "a travel itinerary", "a medical note", "a customer's message"),
    ),
    "translation": Category(
        384,
        "a request for a translation into a named language, followed by the whole text",
        ("a recipe", "a notice to tenants", "a technical manual", "a speech", "a complaint"),
    ),
    "advice": Category(
        768,
        "a request for practical advice in a situation that is told",
        ("work", "learning a skill", "a household", "travel", "health and sport", "a small business"),
    ),
}
MOST_OUTPUT = max(category.max_output for category in CATEGORIES.values())


class Order(NamedTuple):
    """One prompt to be written."""

    category: str
    topic: str
    words: int

    def otherwise(self, attempt: int) -> "Order":
        """With another topic: to the same question a server may give the same answer for ever."""
        topics = CATEGORIES[self.category].topics
        return self._replace(topic=topics[(topics.index(self.topic) + attempt) % len(topics)])


def orders(categories: Sequence[str], count: int, there: Counter[str]) -> list[Order]:
    """What is still to be written of `count` prompts, the categories in turn. there: prompts that there are, by
    category. A prompt of a category too many does not stand for one of another."""
    taken: Counter[str] = Counter()
    left = []
    for number in range(count):
        name = categories[number % len(categories)]
        nth = taken[name]
        taken[name] += 1
        if nth >= there[name]:
            topics = CATEGORIES[name].topics
            left.append(Order(name, topics[nth % len(topics)], WORDS[number // len(categories) % len(WORDS)]))
    return left


def question(order: Order, earlier: Sequence[str]) -> str:
    """What the model is asked. earlier: prompts of the category, the latest last."""
    category = CATEGORIES[order.category]
    shown = [" ".join(text.split())[:_BEGINNING] for text in earlier[-_EARLIER:]]
    asked = (
        f"Write {category.what}, as a user would put it to an AI assistant. Topic: {order.topic}. "
        f"Length: about {order.words} words. Be specific, with names and figures of your own choice. "
        f"Answer with the user's message alone: no heading, no quotes around it, no comment, no solution."
    )
    if not shown:
        return asked
    return asked + "\nIt must differ in subject from these earlier ones:\n" + "\n".join(f"- {text}" for text in shown)


def expected_tokens(left: Sequence[Order], there: Counter[str]) -> tuple[int, int]:
    """About how many tokens go in and come out, if every first answer is taken. Input grows by what is shown, and that
    by the prompts that there are, by category."""
    there = Counter(there)
    words_in = words_out = 0.0
    for order in left:
        shown = ["x" * _BEGINNING] * there[order.category]
        words_in += len(question(order, shown)) / 6  # characters a word, with its space
        words_out += order.words
        there[order.category] += 1
    return round(words_in * TOKENS_A_WORD), round(words_out * TOKENS_A_WORD)
