"""What the world declares, read from its own headers, and what of it the sources cannot replace."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from msgspec import Struct

from vfio_verify.subject.source.items import Item

# A member that leads out of the world: QEMU reaches the device through it, the world does not have it.
_OUT_OF_THE_WORLD = "io_ops"


# A declaration begins in column 0, the constants of an enum in column 4 (vfio_verify/include).
_MACRO = r"^#define (\w+)"
_IDENTIFIER = (
    r"^(?:(?:\w+ )+\**(?=\w+\()"  # a function
    r"|(?:extern|typedef) (?:\w+ )+\**(?=\w+;)|typedef .*\(\*|\} (?=\w+;)"
    r"|    (?=[A-Z]\w+,$))(\w+)"
)
_STRUCT = r"^(?:typedef )?struct (\w+) \{"
_OPAQUE = r"^typedef struct (\w+) \1;"
_VARIABLE = r"^extern [^;()]*?\b(\w+);"


class WorldNames(Struct, frozen=True):
    """Names in the world's headers."""

    macros: frozenset[str]
    identifiers: frozenset[str]
    """Those of functions, variables, types and constants."""
    structs: frozenset[str]
    """Those of structs with a body."""
    opaque: frozenset[str]
    """Those of structs without one, which the sources may complete."""
    variables: frozenset[str]
    words: frozenset[str]
    """All words, and so all that is declared."""

    @property
    def declared(self) -> frozenset[str]:
        return self.macros | self.identifiers | self.structs

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
        return item.kind == "function" and bool(identifiers & self.declared) and _OUT_OF_THE_WORLD in item.uses.members


@cache
def read_names() -> WorldNames:
    """Read the headers in `vfio_verify/include`."""
    headers = (files("vfio_verify") / "include" / "vfio_verify").iterdir()
    texts = {header.name: header.read_text(encoding="utf-8") for header in headers if header.name.endswith(".h")}
    text = "\n".join(texts.values())
    qemus = "\n".join(text for name, text in texts.items() if name != "system.h")
    return WorldNames(
        macros=_names(_MACRO, qemus),
        identifiers=_names(_IDENTIFIER, qemus),
        structs=_names(_STRUCT, text),
        opaque=_names(_OPAQUE, qemus),
        variables=_names(_VARIABLE, qemus),
        words=frozenset(re.findall(r"\w+", text)),
    )


def _names(declaration: str, text: str) -> frozenset[str]:
    found = re.findall(declaration, text, re.MULTILINE)
    return frozenset(name for name in found if not name.startswith(("vfio_verify_", "VFIO_VERIFY_", "vv_")))
