"""The definitions in a fragment: exact bounds, kind, names defined, names used.

Bounds come from matching braces in a view with comments, strings and other branches blanked, so
that no macro that a parser does not know can move them. What a piece is, tree-sitter tells, one
piece at a time: an unreadable one spoils no other.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from vfio_verify.subject.source import signatures, text
from vfio_verify.subject.source.declarations import KEYWORDS, describe
from vfio_verify.subject.source.patch import Fragment
from vfio_verify.subject.source.signatures import CType, Head

_PUNCTUATION = re.compile(r"[{}();]")
_USE = re.compile(r"(?:(?P<member>(?<!\.)\.|->)\s*|\b(?P<tag>struct|union|enum)\s+)?(?<!\w)(?P<name>[A-Za-z_]\w*)")
_TYPE_ONLY = re.compile(
    r"(?:(?:typedef|static|extern|const|volatile|__extension__)\s+)*(?:struct|union|enum)\b(?:\s*\b[A-Za-z_]\w*)*\s*"
)
_INVOCATION = re.compile(r"\s*([A-Za-z_]\w*)\s*(\()")


@dataclass(eq=False)
class Item:
    """One top-level piece of a fragment, `[start, end)` in its text.

    Names are `struct x` for tags and `x` for all else, as C keeps them apart.
    """

    fragment: Fragment
    start: int
    end: int
    # function, prototype, declaration, extern, typedef, macro, undef, include, pragma or invocation
    kind: str
    names: frozenset[str] = frozenset()
    head: Head | None = None
    static: bool = False
    aliases: dict[str, CType] = field(default_factory=dict)
    arguments: frozenset[str] = frozenset()  # of an invocation of a macro
    uses: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()  # used after a dot or an arrow: a field, or a macro

    @property
    def line(self) -> int:
        return self.fragment.line(self.start)


@dataclass(frozen=True)
class Partial:
    """A function of which a fragment holds only a part; `changed` if the patch touches that part."""

    file: str
    line: int
    name: str
    changed: bool


@dataclass(frozen=True)
class Parsed:
    """A fragment, preprocessed, with its items in the order of the text."""

    fragment: Fragment
    pre: text.Preprocessed
    items: tuple[Item, ...]
    partials: tuple[Partial, ...]


def uses_of(masked: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names a masked text uses, and those it uses only as members."""
    names, members = set(), set()
    for match in _USE.finditer(masked):
        name = match.group("name")
        if match.group("member"):
            members.add(name)
        elif match.group("tag"):
            names.add("struct " + name)
            members.add(name)  # a tag may be a macro as well
        elif name not in KEYWORDS:
            names.add(name)
    return frozenset(names), frozenset(members)


def read(fragment: Fragment) -> Parsed:
    """Split a fragment into its items."""
    source = fragment.text
    if not fragment.whole and (begin := text.starts_in_comment(source)):
        source = text.blanked(source, [(0, begin)])
    pre = text.preprocess(source)
    items: dict[tuple[int, int], Item] = {}
    partials: dict[str, Partial] = {}
    for view in pre.views():
        splitter = _Splitter(fragment, view)
        for item in splitter.run():
            items.setdefault((item.start, item.end), item)
        for partial in splitter.partials:
            partials.setdefault(partial.name, partial)
    found = [
        *items.values(),
        *_from_directives(fragment, pre, sorted(items.values(), key=lambda item: item.start)),
    ]
    for item in found:
        item.uses, item.members = uses_of(pre.masked[item.start : item.end])
    return Parsed(fragment, pre, tuple(sorted(found, key=lambda item: item.start)), tuple(partials.values()))


class _Splitter:
    """Cuts one view into top-level pieces by its braces, parentheses and semicolons."""

    def __init__(self, fragment: Fragment, view: str) -> None:
        self.fragment, self.view = fragment, view
        self.items: list[Item] = []
        self.partials: list[Partial] = []

    def run(self) -> list[Item]:
        begin, depth, opening, parens = 0, 0, 0, 0
        for match in _PUNCTUATION.finditer(self.view):
            symbol, at = match.group(), match.start()
            if depth and symbol not in "{}":
                continue
            if symbol == "{":
                if depth == 0:
                    opening = at
                depth += 1
            elif symbol == "}" and depth == 0:
                if not self.fragment.whole:
                    # The end of a function that begins before the hunk: so is all that came before.
                    self.items.clear()
                    self._cut_short(self.fragment.section, 0, match.end())
                begin, parens = match.end(), 0
            elif symbol == "}":
                depth -= 1
                if depth == 0 and (parens == 0) and (end := self._body(begin, opening, match.end())):
                    begin = end
            elif symbol in "()":
                parens = max(0, parens + (1 if symbol == "(" else -1))
            elif parens == 0:
                self._statement(begin, match.end())
                begin = match.end()
        if depth:
            head = self._after_invocations(begin, opening)
            self._cut_short(self.view[head:opening], head, len(self.view))
        elif self.view[begin:].strip():
            left = self._after_invocations(begin, len(self.view))
            if "(" in self.view[left:]:
                self._cut_short(self.view[left:], left, len(self.view))
        if not self.fragment.whole and not self.items and not self.partials:
            self._cut_short(self.fragment.section, 0, len(self.view))
        return self.items

    def _cut_short(self, head: str, start: int, end: int) -> None:
        first, last = self.fragment.line(start), self.fragment.line(end)
        parsed = signatures.parse_head(text.mask(head)) if "(" in head else None
        if parsed:
            changed = any(first <= line <= last for line in self.fragment.changed)
            self.partials.append(Partial(self.fragment.file, first, parsed.name, changed))

    def _begins_at_margin(self, start: int) -> bool:
        """In a part of a file, only what begins in column 0 is surely not inside a function."""
        return (
            self.fragment.whole or start == 0 or self.view[start - 1] == "\n" or self.fragment.text[start - 1] in "/;}"
        )

    def _add(self, item: Item) -> None:
        if self._begins_at_margin(item.start):
            self.items.append(item)

    def _body(self, begin: int, opening: int, end: int) -> int | None:
        """Take `head { ... }` as a definition; None if the piece goes on (an initialiser, a type)."""
        start = self._after_invocations(begin, opening)
        head = self.view[start:opening]
        plain = re.sub(r"\b(?:[A-Z][A-Z0-9_]+|__\w+__)\s*\((?:[^()]|\([^()]*\))*\)", " ", head)
        if not head.strip():
            return end
        if "=" in re.sub(r"\([^()]*\)", "", plain) or _TYPE_ONLY.fullmatch(
            signatures.without_noise(plain).strip() + " "
        ):
            return None
        parsed = signatures.parse_head(head) if "(" in head else None
        if parsed:
            names = frozenset([parsed.name])
            static = bool(re.search(r"\bstatic\b", head))
            self._add(Item(self.fragment, start, end, "function", names, head=parsed, static=static))
        return end

    def _statement(self, begin: int, end: int) -> None:
        start = self._after_invocations(begin, end)
        written = self.view[start:end]
        if written.strip() != ";":
            self._add(_declaration(self.fragment, start, end, written))

    def _after_invocations(self, begin: int, end: int) -> int:
        """Take the macro invocations without a semicolon off the front; where the rest begins."""
        while match := _INVOCATION.match(self.view, begin, end):
            after = signatures.matching(self.view, match.start(2))
            following = re.compile(r"\s*").match(self.view, after).end()  # type: ignore[union-attr]
            last = following >= end and self.view[end - 1 : end] != ";" and end == len(self.view)
            new_line = "\n" in self.view[after:following] and re.match(
                r"[A-Za-z_]", self.view[following : following + 1]
            )
            if match.group(1) == "__attribute__" or not (last or new_line) or after > end:
                break
            arguments, _ = uses_of(self.view[match.end() : after])
            start = match.start(1)
            self._add(
                Item(
                    self.fragment,
                    start,
                    after,
                    "invocation",
                    frozenset([match.group(1)]),
                    arguments=arguments,
                )
            )
            begin = after
        return begin + len(self.view[begin:end]) - len(self.view[begin:end].lstrip())


def _declaration(fragment: Fragment, start: int, end: int, written: str) -> Item:
    invocation = _INVOCATION.match(written)
    if invocation and re.fullmatch(r"\s*;", written[signatures.matching(written, invocation.start(2)) :]):
        arguments, _ = uses_of(written[invocation.end() :])
        names = frozenset([invocation.group(1)])
        return Item(fragment, start, end, "invocation", names, arguments=arguments)
    found = describe(written)
    static = bool(re.search(r"\bstatic\b", written))
    return Item(fragment, start, end, found.kind, found.names, static=static, aliases=found.aliases)


def _from_directives(fragment: Fragment, pre: text.Preprocessed, items: list[Item]) -> Iterator[Item]:
    starts = [item.start for item in items]
    for directive in pre.directives:
        if directive.word not in ("define", "undef", "include", "pragma") or pre.is_dead(directive.start):
            continue
        name = re.match(r"\s*([A-Za-z_]\w*)", directive.rest)
        near = items[
            max(0, bisect_left(starts, directive.start) - text.MAX_VIEWS) : bisect_left(starts, directive.start)
        ]
        holders = [item for item in near if directive.start < item.end]
        if holders:
            for holder in holders:
                if directive.word == "define" and name:
                    holder.names |= {name.group(1)}
            continue
        if directive.word in ("define", "undef"):
            kind = "macro" if directive.word == "define" else "undef"
            if name:
                yield Item(fragment, directive.start, directive.end, kind, frozenset([name.group(1)]))
        else:
            yield Item(fragment, directive.start, directive.end, directive.word)
