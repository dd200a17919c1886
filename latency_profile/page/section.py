"""A section: what the page has of one thing, under one heading. Whoever has more to show of a point makes one."""

import msgspec

from latency_profile.page.figure import Figure, TextTable


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A table and its caption."""

    caption: str
    table: TextTable


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences, tables and figures, in this order. The page draws figures when they are first to be seen."""

    heading: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Named, ...] = ()
    figures: tuple[Figure, ...] = ()
