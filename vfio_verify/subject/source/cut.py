"""Which pieces of the sources a subject needs: the function, and all it reaches, and no more.

A QEMU file holds much that the world does not know, so what is not reached stays out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from vfio_verify.errors import InputError
from vfio_verify.subject.source import signatures
from vfio_verify.subject.source.items import Item, Parsed, Partial, uses_of
from vfio_verify.subject.source.signatures import CType, Signature
from vfio_verify.subject.source.world_names import WorldNames

DEFAULT_FUNCTION = "vfio_device_mmap_dmabuf"
_SHOWN = 12


@dataclass(frozen=True)
class Target:
    """The function under test."""

    item: Item
    name: str
    signature: Signature


@dataclass
class Cut:
    """What to compile: the items to keep, and the names that they define."""

    target: Target
    kept: list[Item] = field(default_factory=list)
    claims: set[str] = field(default_factory=set)


def find(sources: list[Parsed], function: str | None, name: str) -> Target:
    """The function under test: by name, else by the default name, else by its types.

    Raises InputError that lists what was found, and says what to do.
    """
    functions = [item for parsed in sources for item in parsed.items if item.kind == "function"]
    aliases = aliases_of(sources)
    wanted = [item for item in functions if item.names == {function or DEFAULT_FUNCTION}]
    wanted = _one_of_alternatives(wanted, sources)
    if not wanted:
        _refuse_partial(sources, function or DEFAULT_FUNCTION, must_be_changed=False)
    if wanted or function is not None:
        found, looked_for = wanted, f"{function or DEFAULT_FUNCTION}()"
    else:
        known = [item for item in functions if item.head and signatures.recognise(item.head, aliases)]
        by_name: dict[str, list[Item]] = defaultdict(list)
        for item in known:
            by_name[item.head.name if item.head else ""].append(item)
        found = [item for group in by_name.values() for item in _one_of_alternatives(group, sources)]
        looked_for = f"{DEFAULT_FUNCTION}() or a function with a known signature"
    if len(found) > 1:
        same = len({item.head.name for item in found if item.head}) == 1
        advice = "give the one file that is meant" if same else "choose one with --function NAME"
        raise InputError(f"{name} holds {len(found)} functions that could be meant; {advice}:\n{_listed(found)}")
    if not found:
        raise InputError(f"{name} does not define {looked_for}.\n{_what_there_is(functions, sources)}\n{_shapes()}")
    head = found[0].head
    assert head is not None
    signature = signatures.recognise(head, aliases)
    if signature is None:
        raise InputError(f"{name}: the signature of {head.name}() is not known:\n{_listed(found)}\n{_shapes()}")
    return Target(found[0], head.name, signature)


def aliases_of(sources: Iterable[Parsed]) -> dict[str, CType]:
    """The typedefs of the sources. One that only drops `struct` says nothing new."""
    found: dict[str, CType] = {}
    for parsed in sources:
        for item in parsed.items:
            found.update({name: base for name, base in item.aliases.items() if base != CType(name)})
    return found


def _one_of_alternatives(found: list[Item], sources: list[Parsed]) -> list[Item]:
    """Of definitions in different branches of one `#if`, the longest: the other is a stub."""
    if len(found) < 2 or len({item.fragment for item in found}) > 1:
        return found
    parsed = next(one for one in sources if one.fragment == found[0].fragment)
    for group in parsed.pre.conditionals:
        branches = {group.branch_of(item.start) for item in found}
        if len(branches) == len(found) and None not in branches:
            return [max(found, key=lambda item: item.end - item.start)]
    return found


def _refuse_partial(sources: Iterable[Parsed], name: str, *, must_be_changed: bool) -> None:
    for parsed in sources:
        for partial in parsed.partials:
            if partial.name == name and (partial.changed or not must_be_changed):
                raise InputError(
                    _partial_message(partial, whole_file=parsed.fragment.whole and not parsed.fragment.changed)
                )


def _partial_message(partial: Partial, *, whole_file: bool) -> str:
    if whole_file:
        place = f"{partial.file}:{partial.line}"
        return f"{place}: the end of {partial.name}() was not found; its braces do not match"
    return f"{partial.file}: the patch holds only a part of {partial.name}(); give the whole file"


def _listed(items: list[Item]) -> str:
    lines = []
    for item in items[:_SHOWN]:
        written = item.head.written if item.head else "?"
        lines.append(f"  {item.fragment.file}:{item.line}: {written[:200]}")
    if len(items) > _SHOWN:
        lines.append(f"  and {len(items) - _SHOWN} more")
    return "\n".join(lines)


def _what_there_is(functions: list[Item], sources: list[Parsed]) -> str:
    if not functions:
        parts = sorted({partial.name for parsed in sources for partial in parsed.partials})
        only = f" (only parts of {', '.join(part + '()' for part in parts[:_SHOWN])})" if parts else ""
        return f"It defines no function{only}. Give a patch or a C file that holds the whole function."
    near = [
        item for item in functions if item.head and re.search(r"iovec|virtio_gpu_simple_resource", item.head.written)
    ]
    rest = [item for item in functions if item not in near] if len(functions) < 1000 else []
    return f"It defines:\n{_listed([*near, *rest])}"


def _shapes() -> str:
    return "Choose a function with --function NAME. The signatures known are:\n" + "\n".join(
        f"  {s}" for s in Signature
    )


def reach(target: Target, sources: list[Parsed], world: WorldNames) -> Cut:
    """The target and everything it reaches in the sources, transitively.

    A bare prototype of what the world declares is left to the world.
    Raises InputError where a reached function is there only in part and changed by the patch.
    """
    return _Reach(target, sources, world).run()


class _Reach:
    def __init__(self, target: Target, sources: list[Parsed], world: WorldNames) -> None:
        self.target, self.sources, self.world = target, sources, world
        self.parsed_of = {id(item): parsed for parsed in sources for item in parsed.items}
        self.providers: dict[str, list[Item]] = defaultdict(list)
        self.defined: set[str] = set()
        self.kept: dict[int, Item] = {}
        self.reached: set[str] = set()
        self.waiting: list[Item] = []
        for parsed in sources:
            for item in parsed.items:
                if item is not target.item and world.keeps(item):
                    continue
                if item.kind != "invocation":
                    for name in item.names:
                        self.providers[name].append(item)
                if item.kind in ("function", "declaration", "macro"):
                    self.defined |= item.names

    def run(self) -> Cut:
        for parsed in self.sources:
            for item in parsed.items:
                if item.kind in ("include", "pragma") and _wanted_directive(parsed.pre.text[item.start : item.end]):
                    self._keep(item)
        self._keep(self.target.item)
        for item in self.providers[self.target.name]:
            if item.kind == "function" and item.fragment == self.target.item.fragment:
                self._keep(item)  # another branch's head of the same function
        self._drain()
        while self._keep_invocations():
            self._drain()
        order = {id(parsed.fragment): number for number, parsed in enumerate(self.sources)}
        kept = sorted(self.kept.values(), key=lambda item: (order[id(item.fragment)], item.start))
        return Cut(self.target, kept, _claims(kept))

    def _keep(self, item: Item) -> None:
        if id(item) not in self.kept:
            self.kept[id(item)] = item
            self.waiting.append(item)

    def _drain(self) -> None:
        while self.waiting:
            item = self.waiting.pop()
            names, members = set(item.uses), set(item.members)
            pre = self.parsed_of[id(item)].pre
            for group in pre.conditionals:
                if group.complete and group.start < item.end and item.start < group.end:
                    for directive in group.directives:
                        names |= uses_of(directive.rest)[0]
            if item.kind == "include":
                names, members = names - item.uses, set()
            self.reached |= names
            for name in names:
                for found in self._resolve(name, item):
                    self._keep(found)
            for name in members:
                for found in self._resolve(name, item):
                    if found.kind in ("macro", "undef"):
                        self._keep(found)

    def _resolve(self, name: str, user: Item) -> list[Item]:
        """What a name means in the user's file: its own definitions first, then what is public."""
        everywhere = [item for item in self.providers.get(name, ()) if item is not user]
        same = [item for item in everywhere if item.fragment.file == user.fragment.file]
        public = [
            item
            for item in everywhere
            if item.fragment.is_header
            or (item.kind in ("function", "declaration") and not item.static and "(" not in name)
        ]
        own = [item for item in same if item.kind not in ("prototype", "extern", "undef")]
        found = [
            *same,
            *(item for item in public if item not in same and (not own or item.kind == "prototype")),
        ]
        if not any(item.kind not in ("prototype", "extern", "undef") for item in self.providers.get(name, ())):
            # Where the patch changes a part of it, the world's own version would be another function.
            _refuse_partial(self.sources, name, must_be_changed=True)
        return [item for item in found if item.kind != "prototype" or self._prototype_needed(item)]

    def _prototype_needed(self, item: Item) -> bool:
        return bool(item.names & self.defined) or not item.names & self.world.guarded

    def _keep_invocations(self) -> bool:
        """Keep a macro invocation at file scope where its arguments make a reached name."""
        before = len(self.kept)
        words = "\n".join(sorted(self.reached))
        for parsed in self.sources:
            for item in parsed.items:
                if item.kind != "invocation" or id(item) in self.kept:
                    continue
                known = item.names & self.world.guarded or any(name in self.defined for name in item.names)
                if known and any(argument in words for argument in item.arguments):
                    self._keep(item)
        return len(self.kept) > before


def _wanted_directive(line: str) -> bool:
    """System headers and pragmas stay; QEMU's and glib's headers are the world's to replace."""
    if match := re.match(r"\s*#\s*include\s*(.*)", line, re.DOTALL):
        return bool(re.match(r"<(?!glib|gio/|gmodule|qemu/|pixman)[\w./+-]+>", match.group(1)))
    return bool(re.match(r"\s*#\s*pragma\s+(?!once\b)", line))


def _claims(kept: list[Item]) -> set[str]:
    """The names that the kept text defines, so that the world leaves them alone.

    `typedef struct X Y;` alone defines nothing: the world may hold the struct.
    """
    tags = {name.split()[1] for item in kept for name in item.names if name.startswith("struct ")}
    claims: set[str] = set(tags)
    for item in kept:
        names = {name for name in item.names if not name.startswith("struct ")}
        if item.kind in ("function", "declaration", "macro"):
            claims |= names
        elif item.kind == "typedef":
            claims |= {
                n for n in names if n not in item.aliases or item.aliases[n].base in tags or not _is_bare_tag(item, n)
            }
    return claims


def _is_bare_tag(item: Item, name: str) -> bool:
    written = item.fragment.text[item.start : item.end]
    base = re.escape(item.aliases[name].base)
    return bool(re.match(rf"\s*typedef\s+(?:const\s+)?(?:struct|union)\s+{base}\s+\w+\s*;", written))
