"""The C of the world stands in layers: nothing refers to a layer above its own, and no two files to each other.

The layers are those of pyx/world/layers.txt. References are read from the object files, and from what is included.
"""

from __future__ import annotations

import graphlib
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from places import CHECKOUT
from subject_files import needs_compiler

WORLD = CHECKOUT / "pyx" / "world"
LEVELS = {
    name: int(level)
    for level, name in re.findall(r"^(\d+) (\w+) ", (WORLD / "layers.txt").read_text(encoding="utf-8"), re.MULTILINE)
}
SOURCES, HEADERS = (sorted(WORLD.rglob(f"*.{kind}")) for kind in "ch")

Edge = tuple[str, str]


def part(path: Path) -> str:
    """A file without its suffix: memory/stamps.c and memory/stamps.h are one."""
    return path.relative_to(WORLD).with_suffix("").as_posix()


def layer(name: str) -> str:
    return name.partition("/")[0]


def upward(edges: set[Edge]) -> list[Edge]:
    """References to a layer above, or to another one of the same level."""
    return sorted(
        (user, used)
        for user, used in edges
        if layer(user) != layer(used) and LEVELS[layer(user)] <= LEVELS[layer(used)]
    )


def circle(edges: set[Edge]) -> list[str]:
    """Files that refer to each other, in the order in which they do; none where there is no circle."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for user, used in edges:
        sorter.add(user, used)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def inclusions() -> set[Edge]:
    edges = set()
    for path in [*SOURCES, *HEADERS]:
        for included in re.findall(r'^#include "([\w/]+)\.h"', path.read_text(encoding="utf-8"), re.MULTILINE):
            if (WORLD / f"{included}.h").exists() and included != part(path):
                edges.add((part(path), included))
    return edges


def symbols(path: Path, directory: Path) -> tuple[set[str], set[str]]:
    """What the object file of a source defines for others, and what it refers to."""
    built = directory / f"{part(path).replace('/', '-')}.o"
    command = [*(shlex.split(os.environ.get("CC", "")) or ["cc"]), "-c", "-std=gnu11", "-D_GNU_SOURCE=1"]
    command += ['-DVV_SOURCES=""', *(f"-I{CHECKOUT / name}" for name in ("pyx", "pyx/world", "vfio_verify/include"))]
    subprocess.run([*command, str(path), "-o", str(built)], check=True, timeout=120)
    with built.open("rb") as file:
        (table,) = (one for one in ELFFile(file).iter_sections() if isinstance(one, SymbolTableSection))
        named = [one for one in table.iter_symbols() if one["st_info"]["bind"] != "STB_LOCAL"]
        used = {one.name for one in named if one["st_shndx"] == "SHN_UNDEF"}
        return {one.name for one in named} - used, used


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> set[Edge]:
    directory = tmp_path_factory.mktemp("objects")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(map(part, SOURCES), pool.map(lambda path: symbols(path, directory), SOURCES), strict=True))
    home = {name: owner for owner, (defined, _) in found.items() for name in defined}
    return {(user, home[name]) for user, (_, used) in found.items() for name in used & home.keys()}


def test_each_file_lies_in_a_layer() -> None:
    assert {layer(part(path)) for path in [*SOURCES, *HEADERS]} == set(LEVELS)


@needs_compiler
def test_no_object_refers_upward_or_in_a_circle(references: set[Edge]) -> None:
    assert len(references) > len(SOURCES)
    assert upward(references) == []
    assert circle(references) == []


def test_no_header_is_included_from_below_or_in_a_circle() -> None:
    assert upward(inclusions()) == []
    assert circle(inclusions()) == []


@pytest.mark.parametrize("edge", [("base/die", "qemu/heap"), ("memory/memory", "confine/worker"), ("plans", "session")])
def test_a_reference_upward_or_to_a_neighbour_is_refused(edge: Edge) -> None:
    assert upward({edge, ("serve", "base/die")}) == [edge]


def test_a_circle_is_refused() -> None:
    assert set(circle({("run/run", "run/record"), ("run/record", "run/wire"), ("run/wire", "run/run")})) == {
        "run/run",
        "run/record",
        "run/wire",
    }
