"""The conventions that a case may assume, read from ``specs/conventions.toml``. Each is named as NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct

from vfio_verify.errors import InputError


class Convention(Struct, frozen=True, forbid_unknown_fields=True):
    """What one of QEMU's names returns or holds, as some code takes it."""

    name: str
    value: str
    supposed: str
    """The convention, to stand after "If"."""
    qemu: str
    """What QEMU has instead."""
    world: str
    """What the world does in a case that assumes it."""

    @property
    def key(self) -> str:
        """NAME=VALUE."""
        return f"{self.name}={self.value}"


class _Document(Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag="vfio-verify/conventions@1"):
    convention: tuple[Convention, ...]


@cache
def conventions() -> dict[str, Convention]:
    """Every convention by its NAME=VALUE, in the order of the document."""
    text = files("vfio_verify.specs").joinpath("conventions.toml").read_bytes()
    return {one.key: one for one in msgspec.toml.decode(text, type=_Document).convention}


def in_order(assumed: Iterable[str]) -> tuple[str, ...]:
    """Conventions in the order of the document, each once. Raises InputError for an unknown one, and for two of the
    same name."""
    given = set(assumed)
    if not given:
        return ()
    if unknown := sorted(given - conventions().keys()):
        raise InputError(f"there is no convention {unknown[0]}; there are {', '.join(conventions())}")
    names = [one.name for one in map(conventions().__getitem__, given)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{twice[0]} is assumed to be two things")
    return tuple(key for key in conventions() if key in given)


def supposed(assume: Iterable[str]) -> str:
    """``If vfio_device_get_region_info() returned true on success``."""
    return f"If {' and '.join(conventions()[assumed].supposed for assumed in assume)}"
