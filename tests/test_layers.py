"""Data flows one way, and imports follow it: no module imports one that stands above it."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import vfio_verify

PACKAGE = Path(vfio_verify.__file__).parent

# From below to above: a module may import what stands in a line above its own, or beside it in the same line only
# where the table says so. `specs` is data. Observations are values, which the world fills and the judge reads.
LAYERS = (
    ("vfio_verify", "errors", "spec", "remote", "_core", "_bench", "markup", "source_line"),
    ("outlet",),
    ("debuginfo",),
    ("case", "core", "sandbox"),
    ("backing",),
    ("observation", "model"),
    ("words", "generate", "long_lists", "malformed", "space", "thread_cases", "features", "corpus"),
    ("sequences", "distribution", "cost"),
    ("strategies", "sweep", "kernel_faults", "simpler_world"),
    ("simpler_calls", "small_cases"),
    ("simpler",),
    ("wire", "_world", "source"),
    ("thread_wire",),
    ("usage",),
    ("leftovers",),
    ("process",),
    ("worker", "compiler"),
    ("subject", "pool"),
    ("judge",),
    ("runs", "observe", "cluster", "candidates", "histories", "hangs"),
    ("shrink",),
    ("findings",),
    ("frontier",),
    ("campaign", "replay", "merge"),
    ("line_coverage",),
    ("report", "reduce", "shared"),
    ("text", "schemas", "fuzz_state"),
    ("location", "drawing", "events", "fuzz_outcome", "fuzz_shared", "fuzz_tasks"),
    ("junit", "sarif", "annotations", "harness", "pytest_checks", "fuzz"),
    ("cli_common", "bench_commands"),
    ("outputs", "fuzz_screen", "bench"),
    ("cli_corpus", "cli_fuzz"),
    ("cli", "pytest_plugin"),
    ("__main__",),
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

# What a module must never reach, not even through others.
FORBIDDEN = {
    "judge": {"worker", "wire", "_world", "subject", "compiler", "source", "generate", "strategies", "core", "_core"},
    "model": {"core", "_core", "worker", "wire", "_world", "subject", "observation", "judge"},
    "space": {"core", "_core", "worker", "wire", "_world", "subject", "judge"},
    "case": {"observation", "model", "worker", "subject", "judge"},
    "spec": {"case", "observation", "model", "worker", "judge"},
    "observation": {"model", "judge", "worker", "subject"},
    "generate": {"worker", "judge", "subject", "model", "observation"},
    "sequences": {"worker", "judge", "subject", "model", "observation"},
    "strategies": {"worker", "judge", "subject", "model", "observation"},
    "features": {"generate", "judge", "observation", "strategies", "subject", "worker"},
    "distribution": {"worker", "judge", "subject", "observation"},
    "process": {"worker", "judge", "model", "subject", "runs", "shrink", "campaign"},
    "worker": {"judge", "model", "strategies", "generate", "subject", "runs", "shrink", "campaign"},
    "cost": {"judge", "strategies", "subject", "worker"},
    "small_cases": {"judge", "strategies", "subject", "worker"},
    "simpler": {"judge", "strategies", "subject", "worker"},
    "source": {"worker", "judge", "model", "case"},
    "sandbox": {"worker", "compiler", "source", "case"},
    "compiler": {"worker", "judge", "model", "case"},
    "corpus": {"worker", "judge", "model", "subject", "generate", "strategies"},
    "replay": {"strategies", "generate", "campaign"},
    "remote": {"vfio_verify", "errors", "case", "cluster"},
    "cluster": {"judge", "model", "strategies", "generate", "campaign"},
}


def files() -> dict[str, list[Path]]:
    """The source files of each module of the package, by its first name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0]
        name = "vfio_verify" if first == "__init__.py" else first.removesuffix(".py")
        if "specs" not in path.parts:
            found.setdefault(name, []).append(path)
    return found


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it, by their first names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            module = node.module or ""
            if module == "vfio_verify":
                names |= {f"vfio_verify.{alias.name}" for alias in node.names}
            else:
                names.add(module)
    inside = {[*name.split("."), "vfio_verify"][1] for name in names if name.split(".")[0] == "vfio_verify"}
    return inside - {"__version__"}  # a name of the package, and no module


@functools.cache
def imported() -> dict[str, set[str]]:
    return {module: set().union(*map(imports, paths)) - {module} for module, paths in files().items()}


def reached(module: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    left = [module]
    while left:
        for name in graph.get(left.pop(), set()) - seen:
            seen.add(name)
            left.append(name)
    return seen


def test_every_module_has_its_place():
    extensions = {path.name.partition(".")[0] for path in PACKAGE.glob("*.so")}
    assert set(files()) | extensions <= set(LEVEL)
    assert {"case", "model", "judge", "worker", "shrink", "campaign", "_world", "_core"} <= set(files()) | extensions


@pytest.mark.parametrize("module", sorted(files()))
def test_nothing_imports_against_the_direction(module):
    against = {name for name in imported()[module] if LEVEL.get(name, 99) >= LEVEL[module]}
    assert not against, f"{module} imports {', '.join(sorted(against))}"


@pytest.mark.parametrize("module", FORBIDDEN)
def test_what_must_not_be_known_is_not_reached_through_others_either(module):
    assert not reached(module, imported()) & FORBIDDEN[module]


def test_the_core_is_imported_by_nobody():
    """What is verified must not take part in verifying: only the world's use_core() may call it."""
    graph = imported()
    assert [module for module, names in graph.items() if "core" in names] == []
    assert [module for module, names in graph.items() if "_core" in names] == ["core"]


def test_of_the_native_modules_only_use_core_imports_the_core():
    sources = Path(__file__).parent.parent / "pyx"
    world = (sources / "_world.pyx").read_text(encoding="utf-8")
    brings = re.compile(r"\bimport\b.*\b_?core\b|\bfrom\b.*\b_core\b.*import")
    lines = [line for line in world.splitlines() if brings.search(line)]
    assert lines == ["    from vfio_verify import _core"]
    core = (sources / "_core.pyx").read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:from|import|cimport) .*vfio_verify.*", core, re.MULTILINE) == []
    assert world.index("def use_core") < world.index(lines[0]) < world.index("cdef void *_pointer")


def test_the_world_is_imported_only_where_a_process_serves_it():
    graph = imported()
    assert {module for module, names in graph.items() if "_world" in names} <= {"bench"}  # the process only names it


def test_a_check_of_the_core_needs_no_parser_of_c():
    """subject.py imports what parses and compiles C late."""
    (path,) = files()["subject"]
    top = {
        alias
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in [node.module]
    }
    assert not {"vfio_verify.subject.compiler", "vfio_verify.subject.source"} & top
