"""C text before it is parsed: comments and strings, preprocessor lines, conditional groups.

Offsets never change here: every function answers with text of the length it was given, or with
offsets into it. Bounds found in a simplified view are therefore exact in the original.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath

from msgspec import Struct

_OPAQUE = re.compile(r"""//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?""", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*(?:\#|%:)[ \t]*(\w*)((?:\\\n|[^\n])*)", re.MULTILINE)
_INCLUDED = re.compile(r'\s*("[^"\n]+"|<[^>\n]*>)')
_DEAD = re.compile(r"\s*\(?\s*0[uUlL]*\s*\)?\s*")
MAX_VIEWS = 8


class Fragment(Struct, frozen=True, eq=False):
    """A run of lines of one file, which is named as the user or the patch names it."""

    file: str
    first_line: int
    text: str
    whole: bool = True
    """Nothing stands before it in the file, so it cannot begin inside a function."""
    section: str = ""
    """What diff printed of the function that it begins in."""
    changed: Mapping[int, str | None] = {}
    """The numbers of the lines that a patch added, or removed something at, each with that patch's title."""
    is_linked: bool = False
    """A tree has it, as a header or beside what was given. What the world declares of it stays the world's, except
    where a patch has changed it."""

    @property
    def is_header(self) -> bool:
        return PurePosixPath(self.file).suffix != ".c"

    def line(self, offset: int) -> int:
        """The line number in the file of an offset into the text."""
        return self.first_line + self.text.count("\n", 0, offset)

    def place(self, offset: int) -> str:
        """File and line of an offset into the text, as messages have them."""
        return f"{self.file}:{self.line(offset)}"


class Directive(Struct, frozen=True):
    """A preprocessor line with its continuation lines, `[start, end)` without the newline."""

    start: int
    end: int
    word: str
    rest: str
    """What follows the word, without comments and without what is in strings."""
    included: str | None = None
    """What an include names, with its quotes or brackets. None if that is a macro, and for other directives."""


class Conditional(Struct, frozen=True):
    """One `#if` to its `#endif`. Branch i lies between directive i and directive i + 1.

    A group of which the fragment does not hold both ends is not complete.
    """

    directives: tuple[Directive, ...]
    limits: tuple[tuple[int, int], ...]
    """Where each branch lies, `[start, end)`."""
    complete: bool

    def branch_of(self, offset: int) -> int | None:
        """The branch that holds this offset, if one does."""
        return next((i for i, (a, b) in enumerate(self.limits) if a <= offset < b), None)

    def is_dead(self, branch: int) -> bool:
        """Whether `#if 0`, or an `#if 1` before it, rules the branch out."""
        first = self.directives[0]
        if not self.complete or first.word != "if":
            return False
        return bool(_DEAD.fullmatch(first.rest)) if branch == 0 else first.rest.strip() == "1"


class Preprocessed(Struct, frozen=True, eq=False, dict=True):
    """A fragment with its masked form, and what the preprocessor would see in it."""

    fragment: Fragment
    text: str
    """As the fragment has it, without the rest of a comment that it begins in."""
    masked: str
    directives: tuple[Directive, ...]
    conditionals: tuple[Conditional, ...]

    @cached_property
    def _dead(self) -> list[tuple[int, int]]:
        """The branches that no configuration compiles, merged and in order."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(
            limits for group in self.conditionals for i, limits in enumerate(group.limits) if group.is_dead(i)
        ):
            if not merged or start >= merged[-1][1]:
                merged.append((start, end))
        return merged

    def is_dead(self, offset: int) -> bool:
        """Whether the offset lies in a branch that no configuration compiles."""
        at = bisect_right(self._dead, (offset, len(self.text))) - 1
        return at >= 0 and offset < self._dead[at][1]

    def groups_around(self, start: int, end: int) -> Iterator[Conditional]:
        """The complete groups of which a part lies in `[start, end)`, the outer ones first."""
        for group in self.conditionals:
            if group.complete and group.directives[0].start < end and start < group.directives[-1].end:
                yield group

    def views(self) -> Iterator[str]:
        """The masked text with one branch of each group kept, as many times as the longest group needs.

        Branches often hold one brace each of a pair, so no parser can read them all at once.
        """
        count = max((len(group.limits) for group in self.conditionals), default=1)
        yield from dict.fromkeys(self._view(number) for number in range(min(count, MAX_VIEWS)))

    def _view(self, number: int) -> str:
        blanks = [(directive.start, directive.end) for directive in self.directives]
        for group in self.conditionals:
            alive = [i for i in range(len(group.limits)) if not group.is_dead(i)]
            kept = alive[min(number, len(alive) - 1)] if alive else None
            blanks += [limits for i, limits in enumerate(group.limits) if i != kept]
        return _blanked(self.masked, blanks)


def preprocess(fragment: Fragment) -> Preprocessed:
    """Find the comments, preprocessor lines and conditional groups of one fragment."""
    text = fragment.text
    if not fragment.whole and (begin := _starts_in_comment(text)):
        text = _blanked(text, [(0, begin)])
    masked = mask(text)
    directives = tuple(_directive(match, text) for match in _DIRECTIVE.finditer(masked))
    return Preprocessed(fragment, text, masked, directives, tuple(_conditionals(directives, len(text))))


def mask(text: str) -> str:
    """Comments become spaces; strings and character constants keep only their quotes.

    Newlines inside them go too, so that no later step takes a line of a comment for code.
    """

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found[0] == "/":
            return " " * len(found)
        closing = found[0] if len(found) > 1 and found[-1] == found[0] else " "
        return found[0] + " " * (len(found) - 2) + closing if len(found) > 1 else " "

    return _OPAQUE.sub(blank, text)


def _starts_in_comment(text: str) -> int:
    """Where code begins in a fragment that may begin inside a comment; 0 if it does not.

    A comment's end without a beginning tells, unless it stands in a string.
    """
    end, begin = text.find("*/"), text.find("/*")
    if end < 0 or 0 <= begin < end:
        return 0
    line = text[text.rfind("\n", 0, end) + 1 : end]
    return 0 if line.count('"') % 2 else end + 2


def _blanked(text: str, ranges: Iterable[tuple[int, int]]) -> str:
    """The text with these ranges replaced by spaces; newlines stay."""
    pieces, done = [], 0
    for start, end in sorted(ranges):
        if end <= done:
            continue
        begin = max(start, done)
        pieces += [text[done:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        done = end
    return "".join([*pieces, text[done:]])


def _directive(match: re.Match[str], text: str) -> Directive:
    included = _INCLUDED.match(text, match.start(2), match.end(2)) if match[1] == "include" else None
    return Directive(match.start(), match.end(), match[1], match[2], included[1] if included else None)


class _Open(Struct):
    """A group that is being read. `begin` is where its last branch so far begins."""

    begin: int
    directives: list[Directive] = []
    limits: list[tuple[int, int]] = []
    complete: bool = False

    def add(self, directive: Directive) -> None:
        self.limits.append((self.begin, directive.start))
        self.directives.append(directive)
        self.begin = directive.end


def _conditionals(directives: Iterable[Directive], length: int) -> Iterator[Conditional]:
    """The groups in the order of their beginnings. One whose `#if` is not there begins where the text does."""
    found: list[_Open] = []
    stack: list[_Open] = []
    for directive in directives:
        if directive.word in ("if", "ifdef", "ifndef"):
            stack.append(_Open(directive.end, [directive]))
            found.append(stack[-1])
        elif directive.word in ("elif", "elifdef", "elifndef", "else"):
            if not stack:
                stack.append(_Open(0))
                found.append(stack[-1])
            stack[-1].add(directive)
        elif directive.word == "endif" and stack:
            group = stack.pop()
            group.complete = len(group.directives) > len(group.limits)
            group.add(directive)
    for group in stack:
        group.limits.append((group.begin, length))
    return (Conditional(tuple(group.directives), tuple(group.limits), group.complete) for group in found)
