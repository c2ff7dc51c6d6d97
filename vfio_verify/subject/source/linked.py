"""What the subject uses and other files of its tree define, found as a linker would: by name, wherever it is.

Headers that the subject's file includes come first, then the files beside it, then all others. What the world declares
is not looked for.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from msgspec import Struct

from vfio_verify.subject.source import items
from vfio_verify.subject.source.cut import Cut, Target, reach
from vfio_verify.subject.source.declarations import KEYWORDS, walk
from vfio_verify.subject.source.items import Item, Parsed
from vfio_verify.subject.source.signatures import declarators, node_text, parse
from vfio_verify.subject.source.text import Fragment, preprocess
from vfio_verify.subject.source.tree import Tree
from vfio_verify.subject.source.world_names import WorldNames

_ROUNDS = 40
_MOST_HEADERS = 2000
_MOST_FILES = 40
"""Files of a tree that are parsed for one name. More define it only if it is a common word."""


class Linked(Struct, frozen=True):
    """A subject with what its tree adds."""

    cut: Cut
    sources: tuple[Parsed, ...]
    notes: tuple[str, ...]
    """Names that the tree defines several times."""

    @property
    def taken(self) -> tuple[str, ...]:
        """Each definition that comes from the tree, and where it is."""
        found = [item for item in self.cut.kept if item.source.fragment.is_linked and item.names and item.is_definition]
        return tuple(f"{', '.join(sorted(item.names))} from {item.place}" for item in found)


class Linker:
    """Finds names in a tree.

    `own` is the path there of the subject's file, None if it is not in the tree; `directories` are searched for the
    headers that it includes, and `gone` are files that a patch removes. Not looked for are the macros that the compiler
    is told of (`defines`) and the words of the system's headers, which `system` gives.
    """

    def __init__(
        self,
        tree: Tree,
        world: WorldNames,
        own: str | None,
        *,
        directories: Sequence[str] = (),
        defines: Collection[str] = (),
        gone: Collection[str] = (),
        system: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._tree, self._world, self._own, self._gone = tree, world, own, gone
        self._system, self._parse = cache(system), cache(self._parsed_file)
        self._directories = [*directories, "include", "."]
        self._asked = {define.partition("=")[0] for define in defines}
        self._parsed: dict[str, Parsed] = {}
        self._notes: list[str] = []
        self._headers: dict[str, int] | None = None

    def link(self, target: Target, given: Sequence[Parsed], names: Collection[str] = ()) -> Linked:
        """The target with all that it reaches in the given sources and in the tree; `names` are looked for as well."""
        files = {parsed.source.fragment.file for parsed in given} | {*self._gone, self._own}
        wanted = {form for name in names for form in (name, f"struct {name}")}
        for _ in range(_ROUNDS):
            sources = _in_order([*self._parsed.values(), *given])
            cut = reach(target, sources, self._world)
            wanted = (wanted | self._missing(cut)) - _defined(cut) - self._asked
            self._asked |= wanted
            found = [path for path in self._definers(wanted, files) if path not in self._parsed] if wanted else []
            if not found:
                break
            for path in found:
                self._parsed[path] = self._parse(path)
            wanted = set()
        return Linked(cut, tuple(sources), tuple(self._notes))

    def _missing(self, cut: Cut) -> set[str]:
        """The names that the kept text uses and nobody defines. Structs are needed where functions use them; elsewhere
        a pointer to one may do, and the compiler tells if it does not."""
        declared = {name for item in cut.kept if item.kind in ("prototype", "extern") for name in item.identifiers}
        free = {name for item in cut.kept for name in _free_names(item)} - self._system()
        known = self._world.declared
        identifiers = {
            name
            for name in (free | declared) - known
            if not name.startswith(("struct ", "trace_", "__")) and not _is_libc(name)
        }
        forward = {
            name: f"struct {item.declaration.tag}"
            for item in cut.kept
            if item.kind == "typedef" and item.declaration and item.declaration.tag
            for name in item.identifiers
        }
        used = {forward.get(name, name) for item in cut.kept if item.kind == "function" for name in item.uses.names}
        tags = {name for name in used if name.startswith("struct ")}
        return identifiers | {tag for tag in tags if tag.removeprefix("struct ") not in known | self._system()}

    def _definers(self, names: Collection[str], files: Collection[str | None]) -> list[str]:
        """The file to take for each name that the tree defines."""
        by_name: dict[str, list[str]] = {name: [] for name in names}
        patterns = {name: _definition(name.removeprefix("struct ")) for name in names}
        for path, data in self._tree.holding({name.removeprefix("struct ") for name in names}):
            if path in files:
                continue
            for name, found in by_name.items():
                if len(found) < _MOST_FILES and patterns[name].search(data):
                    found.append(path)
        chosen: dict[str, None] = {}
        for name, paths in by_name.items():
            defining = sorted((path for path in paths if self._definitions(path, name)), key=self._distance)
            chosen.update(dict.fromkeys(defining[:1]))
            if len(defining) > 1 and not all(map(_is_forward, self._definitions(defining[0], name))):
                others = ", ".join(defining[1:3]) + (" and more" if len(defining) > 3 else "")
                self._notes.append(
                    f"{self._tree.name} defines {name} more than once; {defining[0]} is taken, not {others}."
                )
        return list(chosen)

    def _definitions(self, path: str, name: str) -> list[Item]:
        """What a file defines by a name for others: static functions and macros only if it is a header."""
        parsed = self._parse(path)
        is_header = parsed.source.fragment.is_header
        return [
            item
            for item in parsed.items
            if name in item.names
            and item.is_definition
            and item.kind != "invocation"
            and (is_header or (item.kind in ("function", "declaration") and not item.static))
        ]

    def _parsed_file(self, path: str) -> Parsed:
        text = self._tree.read(path) or ""
        return items.read(preprocess(Fragment(path, 1, text, is_linked=True)))

    def _distance(self, path: str) -> tuple[object, ...]:
        """What is taken first: headers that the subject's file includes, files beside it, no tests and no stubs."""
        if self._headers is None:
            self._headers = {}
            if self._own is not None:
                self._include(self._own)
        parts = PurePosixPath(path).parts
        beside = self._own is not None and PurePosixPath(path).parent == PurePosixPath(self._own).parent
        aside = bool(
            {"tests", "test", "stubs", "roms", "subprojects", "scripts", "linux-user", "bsd-user"} & set(parts)
        )
        return (self._headers.get(path, _MOST_HEADERS), not beside, aside, path)

    def _include(self, first: str) -> None:
        """Number the headers that a file includes, nearest first."""
        assert self._headers is not None
        waiting = [first]
        while waiting and len(self._headers) < _MOST_HEADERS:
            path = waiting.pop(0)
            for header in self._included(path):
                if header not in self._headers:
                    self._headers[header] = len(self._headers)
                    waiting.append(header)

    def _included(self, path: str) -> Iterator[str]:
        for name in re.findall(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', self._tree.read(path) or "", re.MULTILINE):
            for directory in (str(PurePosixPath(path).parent), *self._directories):
                header = normal(f"{directory}/{name}")
                if header is not None and self._tree.read(header) is not None:
                    yield header
                    break


def normal(path: str) -> str | None:
    """A path in the tree without dots; None if it leads out of the tree."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _definition(name: str) -> re.Pattern[bytes]:
    """What looks like a definition of a name: this decides only whether a file is parsed."""
    n = re.escape(name)
    patterns = (
        rf"^[ \t]*#[ \t]*define[ \t]+{n}\b",
        rf"\b(?:struct|union|enum)\s{{1,9}}(?:\w+\s{{1,9}})?{n}\s*\{{",
        rf"^(?!extern\b|return\b)[A-Za-z_}}][^;\n]*(?<!\w){n}[ \t]*(?:[=;,\[]|\)\s*\(|$)",  # variables, typedefs
        rf"^(?:[A-Za-z_][^;\n={{]*\W)?{n}\s*\([^;{{}}]{{0,1000}}\{{",  # functions
        rf"^[ \t]+{n}[ \t]*(?:=[^;\n]*)?,?[ \t]*(?:/[/*].*)?$",  # enumerators
    )
    return re.compile("|".join(patterns).encode(), re.MULTILINE)


def _free_names(item: Item) -> set[str]:
    """The names that an item takes from elsewhere: not its parameters, variables, fields and labels."""
    text = item.source.masked[item.start : item.end]
    own: set[str] = set()
    if item.kind in ("macro", "undef"):
        head = re.match(r"[^\n]*?define\s+\w+\(([^)]*)\)", text)
        own.update(re.findall(r"\w+", head[1]) if head else ())
    else:
        for node in walk(parse(text)):
            if node.type in ("field_identifier", "statement_identifier"):
                own.add(node_text(node))
            elif node.type in ("declaration", "parameter_declaration"):
                for declarator in node.children_by_field_name("declarator"):
                    *_, name = declarators(declarator)
                    own.add(node_text(name))
    return set(item.uses.names) - own - KEYWORDS


def _defined(cut: Cut) -> set[str]:
    return {name for item in cut.kept if item.is_definition for name in item.names}


def _is_forward(item: Item) -> bool:
    """Whether it only names a struct, as several headers may do."""
    return item.declaration is not None and item.declaration.tag is not None


def _is_libc(name: str) -> bool:
    return name.isascii() and hasattr(_LIBC, name)


_LIBC = ctypes.CDLL(None)


def _in_order(sources: list[Parsed]) -> list[Parsed]:
    """Headers before the files that include them, and all headers before other files."""
    headers = [parsed for parsed in sources if parsed.source.fragment.is_header]
    others = [parsed for parsed in sources if not parsed.source.fragment.is_header]
    by_end: dict[str, list[int]] = {}
    for i, header in enumerate(headers):
        by_end.setdefault(PurePosixPath(header.source.fragment.file).name, []).append(i)
    needs = {
        i: {
            j
            for directive in header.source.directives
            if directive.included
            for j in by_end.get(PurePosixPath(directive.included[1:-1]).name, ())
            if j != i
        }
        for i, header in enumerate(headers)
    }
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        order = list(range(len(headers)))
    return [*(headers[i] for i in order), *others]
