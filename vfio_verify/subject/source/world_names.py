"""What the world declares, read from its own headers, and what of it the sources cannot replace."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from msgspec import Struct

from vfio_verify.subject.source.items import Item

# A member that leads out of the world: QEMU reaches the device through it, the world does not have it.
_OUT_OF_THE_WORLD = "io_ops"


class WorldNames(Struct, frozen=True):
    """Names in the world's headers."""

    guarded: frozenset[str]
    """Those that the sources may claim."""
    structs: frozenset[str]
    """Those of structs with a body."""
    variables: frozenset[str]
    words: frozenset[str]
    """All words, and so all that is declared."""

    def keeps(self, item: Item) -> bool:
        """Whether the world's own definition stands, although the sources have one.

        The sources win (design.md, section 3), but for what would cut the subject off from the case
        it is run on: structs whose objects the world makes (with its own layout), the lists that it
        fills, and functions that go on to a backend that it does not have.
        """
        tags, identifiers = item.tags, item.identifiers
        if item.kind == "typedef" and (tags | identifiers) & self.structs:
            return item.declaration is not None and item.declaration.has_body
        if item.kind == "declaration":
            return bool(tags & self.structs and not identifiers) or bool(
                identifiers & self.variables and not item.static
            )
        return item.kind == "function" and bool(identifiers & self.guarded) and _OUT_OF_THE_WORLD in item.uses.members


@cache
def read_names() -> WorldNames:
    """Read the headers in `vfio_verify/include`."""
    headers = (files("vfio_verify") / "include" / "vfio_verify").iterdir()
    text = "\n".join(header.read_text(encoding="utf-8") for header in headers if header.name.endswith(".h"))
    return WorldNames(
        guarded=frozenset(re.findall(r"\bVFIO_VERIFY_SOURCE_DEFINES_(\w+)", text)),
        structs=frozenset(re.findall(r"\bstruct\s+(\w+)\s*\{", text)),
        variables=frozenset(re.findall(r"^extern\s+[^;()]*?\b(\w+);", text, re.MULTILINE)),
        words=frozenset(re.findall(r"\w+", text)),
    )
