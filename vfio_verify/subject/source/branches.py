"""Parts of the kept functions that a preprocessor condition can leave out, and what leaves them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vfio_verify.subject.source.items import Item
from vfio_verify.subject.source.text import Conditional, Preprocessed
from vfio_verify.values.source_line import LeftOut

_DEFINED = re.compile(r"(!?)\s*defined\s*(?:\(\s*(\w+)\s*\)|\s(\w+))")
_MARKER = re.compile(r'# (\d+) "((?:\\.|[^"\\])*)"')
_LONGEST = 80


def branches_of(kept: Iterable[Item], defines: Iterable[str] = ()) -> Iterator[LeftOut]:
    """Each part of a kept function that lies in one branch of a group, the outer ones first. `defines` are what the
    compiler is given, ``NAME`` or ``NAME=VALUE`` each."""
    given = {define.partition("=")[0] for define in defines}
    for item in kept:
        if item.kind != "function":
            continue
        fragment, masked = item.source.fragment, item.source.masked
        for group in item.source.groups_around(item.start, item.end):
            if _guard(group, item.source) not in (None, *given):
                continue
            for number, (begin, end) in enumerate(group.limits):
                start, stop = max(begin, item.start), min(end, item.end)
                code = masked[start:stop]
                if code.strip():
                    start += len(code) - len(code.lstrip())
                    stop -= len(code) - len(code.rstrip())
                    yield LeftOut(fragment.file, fragment.line(start), fragment.line(stop), _why(group, number))


def _guard(group: Conditional, source: Preprocessed) -> str | None:
    """The macro by which the group keeps a header from being read twice, if it does. It leaves nothing out of the first
    reading, or what calls the header's functions would not compile."""
    first = group.directives[0]
    inside = next((directive for directive in source.directives if directive.start >= first.end), None)
    if first.word != "ifndef" or len(group.directives) != 2 or inside is None or inside.word != "define":
        return None
    macro, defined = first.rest.split(), inside.rest.split()
    return macro[0] if macro and macro[:1] == defined[:1] else None


def _why(group: Conditional, branch: int) -> str:
    """What keeps a branch from being compiled."""
    first, chosen = group.directives[0], group.directives[branch]
    if chosen.word == "else" and len(group.directives) > 3:
        return "another branch is compiled"
    if chosen.word == "else":
        return _outcome(first.word, first.rest, holds=True)
    text = _outcome(chosen.word, chosen.rest, holds=False)
    return f"{text}, or another branch is compiled" if branch else text


def _outcome(word: str, rest: str, *, holds: bool) -> str:
    """A condition that holds, or does not, in words."""
    condition = " ".join(rest.replace("\\\n", " ").split())
    name = condition.split(" ")[0] if word.endswith("def") else None
    positive = not word.endswith("ndef")
    if name is None and (match := _DEFINED.fullmatch(condition)):
        name, positive = match[2] or match[3], not match[1]
    if name is not None:
        return f"{name} is {'' if positive == holds else 'not '}defined"
    if not holds and condition == "0":
        return "#if 0"
    return f"`{condition[:_LONGEST]}` is {'true' if holds else 'false'}"


def left_out(parts: Iterable[LeftOut], preprocessed: str) -> tuple[LeftOut, ...]:
    """Those parts of which a preprocessor's output holds nothing, without what lies inside of others."""
    compiled = _lines_with_code(preprocessed)
    found: list[LeftOut] = []
    for part in parts:
        inside = any(one.file == part.file and one.first <= part.first and part.last <= one.last for one in found)
        if not inside and compiled.get(part.file, set()).isdisjoint(range(part.first, part.last + 1)):
            found.append(part)
    return tuple(found)


def _lines_with_code(preprocessed: str) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {}
    here: set[int] = set()
    number = 0
    for text in preprocessed.split("\n"):
        if marker := _MARKER.match(text):
            number = int(marker[1])
            here = lines.setdefault(re.sub(r"\\(.)", r"\1", marker[2]), set())
            continue
        if text.strip():
            here.add(number)
        number += 1
    return lines
