"""Symbols that a patch adds to Kconfig files and that are on by default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from vfio_verify.subject.source import diff
from vfio_verify.subject.source.diff import Patch
from vfio_verify.subject.source.items import Item

_CONFIG = re.compile(r"\s*(?:menu)?config\s+(\w+)\s*")
_DEFAULT = re.compile(r"\s*(?:default|def_bool)\s+y\b.*")
_OTHER = re.compile(r"\S.*")


def offered(patches: Iterable[Patch], name: str) -> dict[str, str]:
    """The macro of each such symbol, and the file that has it."""
    found: dict[str, str] = {}
    for patch in patches:
        if "Kconfig" not in patch.diff:
            continue
        for changed in diff.parse(patch.diff, name):
            if not PurePosixPath(changed.path).name.startswith("Kconfig"):
                continue
            symbol = None
            for line in (line for hunk in changed for line in hunk if not line.is_removed):
                text = str(line.value).rstrip("\n")
                if match := _CONFIG.fullmatch(text):
                    symbol = match[1]
                elif symbol and _DEFAULT.fullmatch(text):
                    found[f"CONFIG_{symbol}"] = changed.path
                elif _OTHER.fullmatch(text):
                    symbol = None
    return found


def notes(offers: Mapping[str, str], kept: Iterable[Item], unit: str, defines: Iterable[str]) -> tuple[str, ...]:
    """What is to be said of those symbols on which the kept text depends, and which are not defined."""
    conditions = " ".join(
        directive.rest
        for item in kept
        for group in item.source.groups_around(item.start, item.end)
        for directive in group.directives
    )
    asked = set(re.findall(r"\w+", conditions)) - {define.partition("=")[0] for define in defines}
    return tuple(
        f"{file} sets {macro} by default in this patch, and it is not defined: -D {macro} compiles what depends on it."
        for macro, file in offers.items()
        if macro in asked and f"#define {macro} 1\n" not in unit
    )
