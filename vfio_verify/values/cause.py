"""The grammar of a cause: the string by which two ways of violating one clause are told apart.

    cause = [origin] kind [": " detail]
    origin = "at once: "      of concurrent calls
           | CLAUSE ": "      of REPEATABLE: what a call violates only after other calls

Where several kinds or details explain what was seen, they are joined by " or ". `@1f3` is a place in the subject's
code. A cause stays a string wherever it is kept: in reports, in kept cases, on a search's disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

Key = tuple[str, str]
"""A clause, and a cause: what tells a violation from others of the same subject."""

Origin = Literal["alone", "after others", "concurrent"]

UNTOLD = "?"
"""A detail, or a whole cause, that another case of the same fault tells."""
SUCCESS = "success"
"""The detail of what stays behind when the call succeeds."""

_CONCURRENT = "at once: "
_OR = " or "
_JOINED = ("refused", "none", "hole", "placeholder", "anonymous")
"""Kinds whose detail can be several; of CONTENTS the kind itself can be."""


class Cause(NamedTuple):
    """A cause taken apart. `clause` is the one that the call itself violates, `text` the cause under that clause."""

    origin: Origin
    clause: str
    text: str

    @property
    def kind(self) -> str:
        return self.text.partition(": ")[0]

    @property
    def detail(self) -> str:
        """What tells causes of one kind apart; "" where there is nothing."""
        return self.text.partition(": ")[2]


def take_apart(key: Key) -> Cause:
    """What a cause says."""
    clause, cause = key
    if cause.startswith(_CONCURRENT):
        return Cause("concurrent", clause, cause.removeprefix(_CONCURRENT))
    inner, colon, text = cause.partition(": ")
    if clause == "REPEATABLE" and colon:
        return Cause("after others", inner, text)
    return Cause("alone", clause, cause)


def concurrent(cause: str) -> str:
    """The cause of what only concurrent calls show."""
    return f"{_CONCURRENT}{cause}"


def after_others(clause: str, cause: str) -> str:
    """The cause under REPEATABLE of what a call violates only after other calls."""
    return f"{clause}: {cause}"


def of_kind(kind: str, detail: str) -> str:
    """A kind and a detail as one cause."""
    return f"{kind}: {detail}"


def is_of_kind(cause: str, kind: str) -> bool:
    """Whether a call's own cause is this one, or of this kind; every cause is of the kind ""."""
    return kind in ("", cause, cause.partition(": ")[0])


# ---- what is one of several -------------------------------------------------------------------------------------


def any_of(names: Iterable[str]) -> str:
    """A kind or detail that is one of these."""
    return _OR.join(sorted(names))


def names_of(text: str) -> list[str]:
    """The kinds or details that a text may stand for; most stand for themselves alone."""
    return text.split(_OR)


def alternatives(key: Key) -> list[Key]:
    """The keys that an ambiguous one may stand for; of any other, itself alone."""
    told = take_apart(key)
    if told.origin != "concurrent" and (told.kind in _JOINED or (told.clause == "CONTENTS" and not told.detail)):
        names = told.detail or told.kind
        return [(key[0], key[1].removesuffix(names) + name) for name in names_of(names)]
    return [key]


def is_ambiguous(key: Key) -> bool:
    """Whether a cause may stand for several."""
    return len(alternatives(key)) > 1


# ---- places and crashes -------------------------------------------------------------------------------------------

NameOfLine = Callable[[int], "str | None"]
"""Names the line of a place in the subject's code; None if it has none."""
_PLACE = re.compile(r"@([0-9a-f]+)\b")
_PLACELESS = re.compile(r" after \w+$")


def at(address: int) -> str:
    """A place in the subject's code, until `named` gives it the name of its line."""
    return f"@{address:x}"


def named(cause: str, line: NameOfLine) -> str:
    """A cause with the names of lines in place of addresses."""
    return _PLACE.sub(lambda match: line(int(match[1], 16)) or match[0], cause)


def is_crash(cause: str) -> bool:
    """Whether a signal ended the call, of those made alone."""
    return cause.startswith("signal ")


def lacks_a_place(cause: str) -> bool:
    """Whether a crash is told by the step before it, for want of a place."""
    return _PLACELESS.search(cause) is not None
