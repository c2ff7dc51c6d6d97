"""Which pieces of the sources a subject needs: the function, and all it reaches, and no more.

A QEMU file holds much that the world does not know, so what is not reached stays out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import signatures
from vfio_verify.subject.source.items import Item, Parsed, uses_of
from vfio_verify.subject.source.signatures import CType, Head, Signature
from vfio_verify.subject.source.world_names import WorldNames

DEFAULT_FUNCTION = "vfio_device_mmap_dmabuf"
_SHOWN = 12

Functions = Mapping[Item, Head]


class Target(Struct, frozen=True):
    """The function under test."""

    item: Item
    name: str
    signature: Signature


class Cut(Struct, frozen=True):
    """What to compile of the sources."""

    target: Target
    kept: tuple[Item, ...]
    """The items to compile, in the order of the sources."""
    claims: frozenset[str]
    """The names that they define, and that the world's own give way to."""

    def by_file(self) -> dict[str, list[Item]]:
        """The kept items of each file. The function's own file comes last: what it calls is then defined before it."""
        files: dict[str, list[Item]] = {}
        for item in self.kept:
            files.setdefault(item.file, []).append(item)
        files[self.target.item.file] = files.pop(self.target.item.file)
        return files

    def first_use(self, name: str) -> str:
        """File and line where a name is first used, or is declared if nothing uses it; "?" if it is not there."""
        using = [item for items in self.by_file().values() for item in items if name in item.uses.names]
        using.sort(key=lambda item: item.kind in ("prototype", "extern"))
        return next((item.source.fragment.place(item.uses.names[name]) for item in using), "?")


def find(sources: Sequence[Parsed], function: str | None, name: str) -> Target:
    """The function under test: by name, else by the default name, else by its types.

    Raises InputError that lists what was found, and says what to do.
    """
    functions: Functions = {item: item.head for parsed in sources for item in parsed.items if item.head}
    aliases = _aliases_of(sources)
    wanted = function or DEFAULT_FUNCTION
    looked_for = f"{wanted}()"
    found = _without_stubs(item for item, head in functions.items() if head.name == wanted)
    if not found:
        _refuse_partial(sources, wanted)
        if function is None:
            looked_for += " or a function with a known signature"
            by_name: dict[str, list[Item]] = defaultdict(list)
            for item, head in functions.items():
                if signatures.recognise(head, aliases):
                    by_name[head.name].append(item)
            found = [item for group in by_name.values() for item in _without_stubs(group)]
    if len(found) > 1:
        same = len({functions[item].name for item in found}) == 1
        advice = "give the one file that is meant" if same else "choose one with --function NAME"
        raise InputError(
            f"{name} holds {len(found)} functions that could be meant; {advice}:\n{_listed(found, functions)}"
        )
    if not found:
        raise InputError(f"{name} does not define {looked_for}.\n{_what_there_is(functions, sources)}\n{_shapes()}")
    head = functions[found[0]]
    signature = signatures.recognise(head, aliases)
    if signature is None:
        raise InputError(
            f"{name}: the signature of {head.name}() is not known:\n{_listed(found, functions)}\n{_shapes()}"
        )
    return Target(found[0], head.name, signature)


def _aliases_of(sources: Sequence[Parsed]) -> dict[str, CType]:
    """The typedefs of the sources. One that only drops `struct` says nothing new."""
    return {
        name: base
        for parsed in sources
        for item in parsed.items
        if item.declaration
        for name, base in item.declaration.aliases.items()
        if base != CType(name)
    }


def _without_stubs(items: Iterable[Item]) -> list[Item]:
    """Keep the longest of definitions in different branches of one `#if`: the others are stubs."""
    found = list(items)
    if len(found) < 2 or len({item.source for item in found}) > 1:
        return found
    for group in found[0].source.conditionals:
        branches = {group.branch_of(item.start) for item in found}
        if len(branches) == len(found) and None not in branches:
            return [max(found, key=lambda item: item.end - item.start)]
    return found


def _refuse_partial(sources: Sequence[Parsed], name: str, *, only_if_changed: bool = False) -> None:
    """Refuse a function of which the sources hold only a part."""
    for parsed in sources:
        for partial in parsed.partials:
            if partial.name != name or (only_if_changed and not partial.changed):
                continue
            fragment = partial.fragment
            if fragment.whole and not fragment.changed:
                raise InputError(
                    f"{fragment.file}:{partial.line}: the end of {name}() was not found; its braces do not match"
                )
            raise InputError(
                f"{fragment.file}: the patch holds only a part of {name}(); give it with --tree DIR, "
                "or as `git diff -W` makes it, or give the whole file"
            )


def _listed(items: list[Item], functions: Functions) -> str:
    lines = [f"  {item.place}: {functions[item].written[:200]}" for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"  and {len(items) - _SHOWN} more")
    return "\n".join(lines)


def _what_there_is(functions: Functions, sources: Sequence[Parsed]) -> str:
    if not functions:
        parts = sorted({partial.name for parsed in sources for partial in parsed.partials})
        only = f" (only parts of {', '.join(part + '()' for part in parts[:_SHOWN])})" if parts else ""
        return f"It defines no function{only}. Give a patch or a C file that holds the whole function."
    near = {item for item, head in functions.items() if re.search(r"iovec|virtio_gpu_simple_resource", head.written)}
    return f"It defines:\n{_listed(sorted(functions, key=lambda item: item not in near), functions)}"


def _shapes() -> str:
    shapes = "".join(f"\n  {signature}" for signature in Signature)
    return f"Choose a function with --function NAME. The signatures known are:{shapes}"


def reach(target: Target, sources: Sequence[Parsed], world: WorldNames) -> Cut:
    """The target and everything it reaches in the sources, transitively.

    A bare prototype of what the world declares is left to the world.
    Raises InputError where a reached function is there only in part and changed by the patch.
    """
    reach = _Reach(target, sources, world)
    reach.run()
    kept = tuple(item for parsed in sources for item in parsed.items if item in reach.kept)
    return Cut(target, kept, _claims(kept))


class _Reach:
    def __init__(self, target: Target, sources: Sequence[Parsed], world: WorldNames) -> None:
        self.target, self.sources, self.world = target, sources, world
        self.items = [item for parsed in sources for item in parsed.items]
        self.providers: dict[str, list[Item]] = defaultdict(list)
        self.defined: set[str] = set()
        self.kept: set[Item] = set()
        self.reached: set[str] = set()
        self.waiting: list[Item] = []
        for item in self.items:
            if item is not target.item and (world.keeps(item) or _is_the_worlds(item, world)):
                continue
            if item.kind != "invocation":
                for name in item.names:
                    self.providers[name].append(item)
            if item.kind in ("function", "declaration", "macro"):
                self.defined |= item.names

    def run(self) -> None:
        for item in self.items:
            if _is_kept_always(item):
                self._keep(item)
        self._keep(self.target.item)
        for item in self.providers[self.target.name]:
            if item.kind == "function" and item.source is self.target.item.source:
                self._keep(item)  # another branch's head of the same function
        self._drain()
        while self._keep_invocations():
            self._drain()

    def _keep(self, item: Item) -> None:
        if item not in self.kept:
            self.kept.add(item)
            self.waiting.append(item)

    def _drain(self) -> None:
        while self.waiting:
            item = self.waiting.pop()
            names = set(item.uses.names)
            for group in item.source.groups_around(item.start, item.end):
                for directive in group.directives:
                    names.update(uses_of(directive.rest).names)
            self.reached |= names
            for name in names:
                for found in self._resolve(name, item):
                    self._keep(found)
            for name in item.uses.members:
                for found in self._resolve(name, item):
                    if found.kind in ("macro", "undef"):
                        self._keep(found)

    def _resolve(self, name: str, user: Item) -> list[Item]:
        """What a name means in the user's file: its own definitions first, then what is public."""
        everywhere = [item for item in self.providers.get(name, ()) if item is not user]
        same = [item for item in everywhere if item.file == user.file]
        has_own = any(item.is_definition for item in same)
        public = [
            item
            for item in everywhere
            if item not in same
            and (item.source.fragment.is_header or (item.kind in ("function", "declaration") and not item.static))
            and (item.kind == "prototype" or not has_own)
        ]
        if not any(item.is_definition for item in self.providers.get(name, ())):
            # Where the patch changes a part of it, the world's own version would be another function.
            _refuse_partial(self.sources, name, only_if_changed=True)
        return [item for item in (*same, *public) if item.kind != "prototype" or self._is_needed(item)]

    def _is_needed(self, prototype: Item) -> bool:
        return bool(prototype.names & self.defined) or not prototype.names & self.world.declared

    def _keep_invocations(self) -> bool:
        """Keep a macro invocation at file scope where its arguments make a reached name."""
        before = len(self.kept)
        words = "\n".join(sorted(self.reached))
        for item in self.items:
            known = item.kind == "invocation" and item.names & (self.world.declared | self.defined)
            if known and any(argument in words for argument in item.arguments):
                self._keep(item)
        return len(self.kept) > before


def _is_the_worlds(item: Item, world: WorldNames) -> bool:
    """Whether a tree defines what the world declares. What was given wins over the world, and this was not."""
    fragment = item.source.fragment
    if not fragment.is_linked or any(
        line in fragment.changed for line in range(item.line, fragment.line(item.end) + 1)
    ):
        return False
    declared = {name.removeprefix("struct ") for name in item.names}
    return not declared.isdisjoint(world.declared)


def _is_kept_always(item: Item) -> bool:
    """Whether it is a system header or a pragma. QEMU's and glib's headers are the world's to replace."""
    if item.directive is None:
        return False
    if item.kind == "include":
        return bool(re.match(r"<(?!glib|gio/|gmodule|qemu/|pixman)[\w./+-]+>", item.directive.included or ""))
    return item.kind == "pragma" and not re.match(r"\s*once\b", item.directive.rest)


def _claims(kept: Iterable[Item]) -> frozenset[str]:
    """The names that the kept text defines.

    `typedef struct X Y;` alone defines nothing: the world may hold the struct.
    """
    tags = frozenset(tag for item in kept for tag in item.tags)
    claims = set(tags)
    for item in kept:
        forward = item.declaration.tag if item.declaration else None
        if item.kind in ("function", "declaration", "macro", "typedef") and (forward is None or forward in tags):
            claims |= item.identifiers
    return frozenset(claims)
