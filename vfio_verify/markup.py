"""Text of any origin made safe for a form that gives some characters a meaning: XML, Markdown."""

from __future__ import annotations

import re

# What XML 1.0 has no place for, what a terminal or a log obeys, and what turns the direction of writing.
_UNSEEN = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_MARKED = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@$-])")


def visible(text: str) -> str:
    """Control characters, lone surrogates and the like as escapes: a subject's message may hold any byte."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def prose(text: str) -> str:
    """One line of Markdown in which nothing is marked up."""
    return _MARKED.sub(r"\\\1", " ".join(visible(text).split()))


def fenced(text: str) -> str:
    """A block of Markdown that shows the text as it is, whatever it holds."""
    text = visible(text).rstrip("\n")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
