"""What the world declares, read from its own headers, and what of it the sources cannot replace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from vfio_verify.subject.source.items import Item

# A member that leads out of the world: QEMU reaches the device through it, the world does not have it.
_OUT_OF_THE_WORLD = frozenset({"io_ops"})


@dataclass(frozen=True)
class WorldNames:
    """Names in the world's headers: all with a guard, structs with a body, variables."""

    guarded: frozenset[str] = frozenset()
    structs: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()

    def keeps(self, item: Item) -> bool:
        """Whether the world's own definition stands, although the sources have one.

        The sources win (design.md, section 3), but for what would cut the subject off from the case
        it is run on: structs whose objects the world makes (with its own layout), the lists that it
        fills, and functions that go on to a backend that it does not have.
        """
        tags = {name.removeprefix("struct ") for name in item.names if name.startswith("struct ")}
        plain = {name for name in item.names if not name.startswith("struct ")}
        if item.kind == "typedef" and (tags | plain) & self.structs:
            return "{" in item.fragment.text[item.start : item.end]
        if item.kind == "declaration":
            return (bool(tags & self.structs) and not plain) or (bool(plain & self.variables) and not item.static)
        return item.kind == "function" and bool(plain & self.guarded) and bool(item.members & _OUT_OF_THE_WORLD)


def read_names() -> WorldNames:
    """Read `vfio_verify/include/vfio_verify/*.h`."""
    guarded: set[str] = set()
    structs: set[str] = set()
    variables: set[str] = set()
    for header in (files("vfio_verify") / "include" / "vfio_verify").iterdir():
        if header.name.endswith(".h"):
            text = header.read_text(encoding="utf-8")
            guarded.update(re.findall(r"\bVFIO_VERIFY_SOURCE_DEFINES_(\w+)", text))
            structs.update(re.findall(r"\bstruct\s+(\w+)\s*\{", text))
            variables.update(re.findall(r"^extern\s+[^;()]*?\b(\w+);", text, re.MULTILINE))
    return WorldNames(frozenset(guarded), frozenset(structs), frozenset(variables))
