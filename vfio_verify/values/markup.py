"""Text of any origin made safe for a form that gives some characters a meaning, or has no place for them: XML,
Markdown, JSON."""

from __future__ import annotations

import re
from typing import Any

import msgspec

# What XML 1.0 has no place for, what a terminal or a log obeys, what turns the direction of writing, what is unseen.
_UNSEEN = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    "|[\xad\u061c\u180e\u200b-\u200f\u2028\u2029\u2060-\u206f\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_MARKED = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@$-])")


def visible(text: str) -> str:
    """Control characters, lone surrogates and the like as escapes: a subject's message may hold any byte."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """Escapes in place of all that a terminal would not show as it is, ends of lines included."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 300) -> str:
    """The text without its middle, if it has more characters: a message that quotes an input may be as long as that."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def json_report(value: msgspec.Struct) -> bytes:
    """One object, indented, with the keys in a fixed order. JSON has no place for a lone surrogate, as which Python
    holds a byte of a file's name that is no UTF-8."""
    try:
        data = msgspec.json.encode(value, order="deterministic")
    except UnicodeEncodeError:
        data = msgspec.json.encode(_encodable(msgspec.to_builtins(value)), order="deterministic")
    return msgspec.json.format(data, indent=1) + b"\n"


def encodable(text: str) -> str:
    """Lone surrogates as escapes, and all else as it is."""
    return text.encode(errors="backslashreplace").decode()


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    return [_encodable(part) for part in value] if isinstance(value, list | tuple) else value


def prose(text: str) -> str:
    """One line of Markdown in which nothing is marked up."""
    return _MARKED.sub(r"\\\1", " ".join(visible(text).split()))


def fenced(text: str) -> str:
    """A block of Markdown that shows the text as it is, whatever it holds."""
    text = visible(text).rstrip("\n")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
