"""What a user gives beside the subject itself: which version is meant, and what it is compiled in."""

from __future__ import annotations

import re

from msgspec import Struct

from vfio_verify.errors import InputError

_DEFINE = re.compile(r"[A-Za-z_]\w*(?:=[^\n\0]*)?", re.ASCII)


class Given(Struct, frozen=True):
    """The options by which a subject is read."""

    tree: str | None = None
    """``DIR`` or ``DIR@COMMIT``: the sources that the subject is a part of."""
    version: int | None = None
    """Which version, where the input holds several."""
    defines: tuple[str, ...] = ()
    """``NAME`` or ``NAME=VALUE`` each, as the compiler's `-D` takes them."""
    directories: tuple[str, ...] = ()
    """Where further headers lie, as for the compiler's `-I`."""
    links: tuple[str, ...] = ()
    """Shared libraries that the subject calls."""

    def __post_init__(self) -> None:
        for define in self.defines:
            if not _DEFINE.fullmatch(define):
                raise InputError(f"-D {define}: write NAME or NAME=VALUE")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line's words for this."""
        return (
            *(("--tree", self.tree) if self.tree is not None else ()),
            *(("--version", str(self.version)) if self.version is not None else ()),
            *(word for define in self.defines for word in ("-D", define)),
            *(word for directory in self.directories for word in ("-I", directory)),
            *(word for library in self.links for word in ("--link", library)),
        )
