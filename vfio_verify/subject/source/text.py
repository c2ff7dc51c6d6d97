"""C text before it is parsed: comments and strings, preprocessor lines, conditional groups.

Offsets never change here: every function answers with text of the length it was given, or with
offsets into it. That is why bounds found in a simplified view are exact in the original.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

_OPAQUE = re.compile(r"""//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?""", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*(?:\#|%:)[ \t]*(\w*)((?:\\\n|[^\n])*)", re.MULTILINE)
_DEAD = re.compile(r"\s*\(?\s*0[uUlL]*\s*\)?\s*")
MAX_VIEWS = 8


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


def starts_in_comment(text: str) -> int:
    """Where code begins in a fragment that may begin inside a comment (0 if it does not).

    A comment's end without a beginning tells, unless it stands in a string.
    """
    end = text.find("*/")
    if end < 0:
        return 0
    begin = text.find("/*")
    if 0 <= begin < end:
        return 0
    line = text[text.rfind("\n", 0, end) + 1 : end]
    return 0 if line.count('"') % 2 else end + 2


@dataclass(frozen=True)
class Directive:
    """A preprocessor line with its continuation lines, `[start, end)` without the newline."""

    start: int
    end: int
    word: str
    rest: str


@dataclass
class Conditional:
    """One `#if` to its `#endif`. Branch i lies between directive i and directive i + 1.

    A group of which the fragment does not hold both ends is not complete.
    """

    directives: list[Directive] = field(default_factory=list)
    limits: list[tuple[int, int]] = field(default_factory=list)
    complete: bool = False

    @property
    def start(self) -> int:
        return self.limits[0][0] if not self.directives else min(self.directives[0].start, self.limits[0][0])

    @property
    def end(self) -> int:
        return self.directives[-1].end if self.complete else self.limits[-1][1]

    def branch_of(self, offset: int) -> int | None:
        """The branch that holds this offset, if one does."""
        return next((i for i, (a, b) in enumerate(self.limits) if a <= offset < b), None)

    def is_dead(self, branch: int) -> bool:
        """Whether `#if 0` or an `#if 1` before it rules the branch out."""
        first = self.directives[0]
        if first.word != "if":
            return False
        if branch == 0:
            return bool(_DEAD.fullmatch(first.rest))
        return first.rest.strip() == "1"


@dataclass(frozen=True)
class Preprocessed:
    """A text with its masked form and what the preprocessor would see in it."""

    text: str
    masked: str
    directives: tuple[Directive, ...]
    conditionals: tuple[Conditional, ...]

    @cached_property
    def _dead(self) -> list[tuple[int, int]]:
        """The branches that no configuration compiles, merged and in order."""
        merged: list[tuple[int, int]] = []
        groups = [group for group in self.conditionals if group.complete]
        for start, end in sorted(
            limits for group in groups for i, limits in enumerate(group.limits) if group.is_dead(i)
        ):
            if not merged or start >= merged[-1][1]:
                merged.append((start, end))
        return merged

    def is_dead(self, offset: int) -> bool:
        """Whether the offset lies in a branch that no configuration compiles."""
        at = bisect_right(self._dead, (offset, len(self.text))) - 1
        return at >= 0 and offset < self._dead[at][1]

    def views(self) -> Iterator[str]:
        """The text with one branch of each group kept, as many times as the longest group needs.

        Branches often hold one brace each of a pair, so no parser can read them all at once.
        """
        count = max((len(group.limits) for group in self.conditionals), default=1)
        seen = set()
        for number in range(min(count, MAX_VIEWS)):
            view = self._view(number)
            if view not in seen:
                seen.add(view)
                yield view

    def _view(self, number: int) -> str:
        blanks = [(directive.start, directive.end) for directive in self.directives]
        for group in self.conditionals:
            alive = [i for i in range(len(group.limits)) if not (group.complete and group.is_dead(i))]
            kept = alive[min(number, len(alive) - 1)] if alive else None
            blanks += [limits for i, limits in enumerate(group.limits) if i != kept]
        return blanked(self.masked, blanks)


def blanked(text: str, ranges: list[tuple[int, int]]) -> str:
    """The text with these ranges replaced by spaces; newlines stay."""
    pieces, done = [], 0
    for start, end in sorted(ranges):
        if end <= done:
            continue
        begin = max(start, done)
        pieces += [text[done:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        done = end
    return "".join([*pieces, text[done:]])


def preprocess(text: str) -> Preprocessed:
    """Find the comments, preprocessor lines and conditional groups of one text."""
    masked = mask(text)
    directives = tuple(
        Directive(match.start(), match.end(), match.group(1), match.group(2)) for match in _DIRECTIVE.finditer(masked)
    )
    return Preprocessed(text, masked, directives, tuple(_conditionals(directives, len(text))))


def _conditionals(directives: tuple[Directive, ...], length: int) -> list[Conditional]:
    found: list[Conditional] = []
    # The group, where its open branch begins, and whether its #if was seen.
    stack: list[tuple[Conditional, int, bool]] = []
    for directive in directives:
        if directive.word in ("if", "ifdef", "ifndef"):
            group = Conditional([directive])
            found.append(group)
            stack.append((group, directive.end, True))
        elif directive.word in ("elif", "elifdef", "elifndef", "else"):
            group, begin, opened = stack.pop() if stack else (Conditional(), 0, False)
            if not opened and not group.directives:
                found.append(group)
            group.limits.append((begin, directive.start))
            group.directives.append(directive)
            stack.append((group, directive.end, opened))
        elif directive.word == "endif" and stack:
            group, begin, opened = stack.pop()
            group.limits.append((begin, directive.start))
            group.directives.append(directive)
            group.complete = opened
    for group, begin, _ in stack:
        group.limits.append((begin, length))
    return found
