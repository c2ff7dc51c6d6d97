"""The definitions in a fragment: exact bounds, kind, names defined, names used.

Bounds come from matching braces in a view with comments, strings and other branches blanked, so
that no macro that a parser does not know can move them. Each piece is then told by tree-sitter on
its own, so that an unreadable one spoils no other.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.subject.source import signatures
from vfio_verify.subject.source.declarations import KEYWORDS, Declaration, describe
from vfio_verify.subject.source.signatures import Head
from vfio_verify.subject.source.text import MAX_VIEWS, Directive, Fragment, Preprocessed, mask

_PUNCTUATION = re.compile(r"[{}();]")
_USE = re.compile(r"(?:(?P<member>(?<!\.)\.|->)\s*|\b(?P<tag>struct|union|enum)\s+)?(?<!\w)(?P<name>[A-Za-z_]\w*)")
_TYPE_ONLY = re.compile(
    r"(?:(?:typedef|static|extern|const|volatile|__extension__)\s+)*(?:struct|union|enum)\b(?:\s*\b[A-Za-z_]\w*)*\s*"
)
_INVOCATION = re.compile(r"\s*([A-Za-z_]\w*)\s*(\()")
_SPACE = re.compile(r"\s*")
_MACRO_CALL = re.compile(r"\b(?:[A-Z][A-Z0-9_]+|__\w+__)\s*\((?:[^()]|\([^()]*\))*\)")


class Uses(Struct, frozen=True):
    """The names that a masked text uses. Tags are named `struct x`."""

    names: Mapping[str, int] = {}
    """Each with the offset where it is first used."""
    members: frozenset[str] = frozenset()
    """After a dot or an arrow: a field, or a macro."""


class Item(Struct, frozen=True, eq=False):
    """One top-level piece of a fragment, `[start, end)` in its text.

    Names are `struct x` for tags and `x` for all else, as C keeps them apart.
    """

    source: Preprocessed
    start: int
    end: int
    kind: str
    """function, prototype, declaration, extern, typedef, macro, undef, include, pragma or invocation."""
    names: frozenset[str] = frozenset()
    head: Head | None = None
    """Where it is a function."""
    static: bool = False
    declaration: Declaration | None = None
    """Where it is a prototype, declaration, extern or typedef."""
    directive: Directive | None = None
    """Where it is a macro, undef, include or pragma."""
    arguments: frozenset[str] = frozenset()
    """The names that the invocation of a macro is given."""
    uses: Uses = Uses()

    @property
    def file(self) -> str:
        return self.source.fragment.file

    @property
    def line(self) -> int:
        return self.source.fragment.line(self.start)

    @property
    def place(self) -> str:
        return self.source.fragment.place(self.start)

    @property
    def is_definition(self) -> bool:
        return self.kind not in ("prototype", "extern", "undef")

    @property
    def tags(self) -> frozenset[str]:
        """The tags among its names, without `struct`."""
        return frozenset(name.removeprefix("struct ") for name in self.names if name.startswith("struct "))

    @property
    def identifiers(self) -> frozenset[str]:
        """Its names that are no tags."""
        return frozenset(name for name in self.names if not name.startswith("struct "))


class Partial(Struct, frozen=True):
    """A function of which a fragment holds only a part; `changed` if the patch touches that part."""

    fragment: Fragment
    line: int
    name: str
    changed: bool


class Parsed(Struct, frozen=True, eq=False):
    """A fragment, preprocessed, with its items in the order of the text."""

    source: Preprocessed
    items: tuple[Item, ...]
    partials: tuple[Partial, ...]


def uses_of(masked: str, start: int = 0, end: int | None = None) -> Uses:
    """What `[start, end)` of a masked text uses."""
    names: dict[str, int] = {}
    members = set()
    for match in _USE.finditer(masked, start, len(masked) if end is None else end):
        name = match["name"]
        if match["member"]:
            members.add(name)
        elif match["tag"]:
            names.setdefault("struct " + name, match.start())
            members.add(name)  # a tag may be a macro as well
        elif name not in KEYWORDS:
            names.setdefault(name, match.start())
    return Uses(names, frozenset(members))


def read(source: Preprocessed) -> Parsed:
    """Split a fragment into its items."""
    bounded: dict[tuple[int, int], Item] = {}
    partials: dict[str, Partial] = {}
    for view in source.views():
        splitter = _Splitter(source, view)
        splitter.run()
        for item in splitter.items:
            bounded.setdefault((item.start, item.end), item)
        for partial in splitter.partials:
            partials.setdefault(partial.name, partial)
    items = _with_directives(source, sorted(bounded.values(), key=lambda item: item.start))
    return Parsed(source, tuple(sorted(items, key=lambda item: item.start)), tuple(partials.values()))


def _with_directives(source: Preprocessed, items: list[Item]) -> Iterator[Item]:
    """The items with the macros that are defined inside them, and the preprocessor lines between them as items."""
    starts = [item.start for item in items]
    defined: dict[Item, set[str]] = {item: set() for item in items}
    for directive in source.directives:
        if directive.word not in ("define", "undef", "include", "pragma") or source.is_dead(directive.start):
            continue
        start, end = directive.start, directive.end
        before = bisect_left(starts, start)
        holders = [item for item in items[max(0, before - MAX_VIEWS) : before] if start < item.end]
        match = re.match(r"\s*([A-Za-z_]\w*)", directive.rest) if directive.word in ("define", "undef") else None
        names = frozenset([match[1]]) if match else frozenset()
        if holders:
            for item in holders if directive.word == "define" else ():
                defined[item] |= names
        elif names or directive.word in ("include", "pragma"):
            kind = "macro" if directive.word == "define" else directive.word
            uses = Uses() if kind == "include" else uses_of(source.masked, start, end)
            yield Item(source, start, end, kind, names, directive=directive, uses=uses)
    for item in items:
        yield replace(item, names=item.names | defined[item], uses=uses_of(source.masked, item.start, item.end))


class _Splitter:
    """Cuts one view into top-level pieces by its braces, parentheses and semicolons."""

    def __init__(self, source: Preprocessed, view: str) -> None:
        self.source, self.fragment, self.view = source, source.fragment, view
        self.items: list[Item] = []
        self.partials: list[Partial] = []

    def run(self) -> None:
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
                    # The end of a function that begins before the hunk: all that came before is inside it, too.
                    self.items.clear()
                    self._cut_short(self.fragment.section, 0, match.end())
                begin, parens = match.end(), 0
            elif symbol == "}":
                depth -= 1
                if depth == 0 and parens == 0 and self._body(begin, opening, match.end()):
                    begin = match.end()
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
            self._cut_short(self.view[left:], left, len(self.view))
        if not self.fragment.whole and not self.items and not self.partials:
            self._cut_short(self.fragment.section, 0, len(self.view))

    def _cut_short(self, head: str, start: int, end: int) -> None:
        """Note a function of which `[start, end)` is a part."""
        first, last = self.fragment.line(start), self.fragment.line(end)
        parsed = signatures.parse_head(mask(head)) if "(" in head else None
        if parsed:
            changed = any(first <= line <= last for line in self.fragment.changed)
            self.partials.append(Partial(self.fragment, first, parsed.name, changed))

    def _add(self, item: Item) -> None:
        """Take an item. In a part of a file, only what begins in column 0 is surely not inside a function."""
        start = item.start
        if self.fragment.whole or start == 0 or self.view[start - 1] == "\n" or self.fragment.text[start - 1] in "/;}":
            self.items.append(item)

    def _body(self, begin: int, opening: int, end: int) -> bool:
        """Take `head { ... }` as a definition, unless the piece goes on behind the braces (an initialiser, a type)."""
        start = self._after_invocations(begin, opening)
        head = self.view[start:opening]
        plain = _MACRO_CALL.sub(" ", head)
        if not head.strip():
            return True
        if "=" in re.sub(r"\([^()]*\)", "", plain) or _TYPE_ONLY.fullmatch(
            signatures.without_noise(plain).strip() + " "
        ):
            return False
        parsed = signatures.parse_head(head) if "(" in head else None
        if parsed:
            static = bool(re.search(r"\bstatic\b", head))
            self._add(Item(self.source, start, end, "function", frozenset([parsed.name]), parsed, static))
        return True

    def _statement(self, begin: int, end: int) -> None:
        start = self._after_invocations(begin, end)
        written = self.view[start:end]
        if written.strip() == ";":
            return
        invocation = _INVOCATION.match(written)
        if invocation and re.fullmatch(r"\s*;", written[signatures.matching(written, invocation.start(2)) :]):
            self._add(self._invocation(invocation[1], start, end, start + invocation.end()))
            return
        found = describe(written)
        static = bool(re.search(r"\bstatic\b", written))
        self._add(Item(self.source, start, end, found.kind, found.names, static=static, declaration=found))

    def _invocation(self, name: str, start: int, end: int, arguments: int) -> Item:
        given = frozenset(uses_of(self.view, arguments, end).names)
        return Item(self.source, start, end, "invocation", frozenset([name]), arguments=given)

    def _after_invocations(self, begin: int, end: int) -> int:
        """Take the macro invocations without a semicolon off the front; where the rest begins."""
        while match := _INVOCATION.match(self.view, begin, end):
            after = signatures.matching(self.view, match.start(2))
            following = self._code_from(after, len(self.view))
            last = following >= end and self.view[end - 1 : end] != ";" and end == len(self.view)
            new_line = "\n" in self.view[after:following] and re.match(
                r"[A-Za-z_]", self.view[following : following + 1]
            )
            if match[1] == "__attribute__" or not (last or new_line) or after > end:
                break
            self._add(self._invocation(match[1], match.start(1), after, match.end()))
            begin = after
        return self._code_from(begin, end)

    def _code_from(self, begin: int, end: int) -> int:
        """Where the space at `begin` ends."""
        match = _SPACE.match(self.view, begin, end)
        return match.end() if match else begin
