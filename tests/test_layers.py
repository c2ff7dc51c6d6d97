"""Data flows one way, and imports follow it: which room may know which is in pyproject.toml, for import-linter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import CHECKOUT

import vfio_verify

PACKAGE = Path(vfio_verify.__file__).parent
NATIVE = {"_core", "_world"}
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "specs" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    """All that a file imports from this package, anywhere in it, and what it asks `importlib` for by a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def asked_for(path: Path) -> Iterator[str]:
    """What a file has `importlib` import, which no linter follows."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node.args[0])


def test_rooms_stand_upon_each_other_and_no_two_in_a_circle() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LINT, str(CHECKOUT / "pyproject.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_there_are_thirteen_rooms_and_each_says_its_one_job() -> None:
    rooms = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file() and path.name != "specs"]
    assert len(rooms) <= 13
    for room in rooms:
        text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
        assert text, room.name
        assert text.split("\n")[0].endswith("."), room.name


def test_nothing_is_imported_by_its_name_in_a_text_but_on_a_clusters_worker() -> None:
    asking = {path.relative_to(PACKAGE).as_posix() for path in files() if list(asked_for(path))}
    assert asking == {"campaign/remote.py"}


def test_the_native_core_is_imported_by_the_core_alone() -> None:
    importing = [path.stem for path in files() if "vfio_verify._core" in set(imports(path))]
    assert importing == ["core"]


def test_of_the_native_modules_only_use_core_imports_the_core() -> None:
    world = (CHECKOUT / "pyx" / "_world.pyx").read_text(encoding="utf-8")
    brings = re.compile(r"\bimport\b.*\b_?core\b|\bfrom\b.*\b_core\b.*import")
    lines = [line for line in world.splitlines() if brings.search(line)]
    assert lines == ["    from vfio_verify import _core"]
    core = (CHECKOUT / "pyx" / "_core.pyx").read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:from|import|cimport) .*vfio_verify.*", core, re.MULTILINE) == []
    assert world.index("def use_core") < world.index(lines[0]) < world.index("cdef void *_pointer")


def test_the_world_is_imported_only_where_a_process_confines_itself() -> None:
    """What starts the process that serves it names it in a command."""
    assert [path.stem for path in files() if "vfio_verify._world" in set(imports(path))] == ["sandbox"]


@pytest.mark.parametrize("module", ["compiler", "source"])
def test_a_check_of_the_core_needs_no_parser_of_c(module: str) -> None:
    """subject.py imports what parses and compiles C late."""
    tree = ast.parse((PACKAGE / "subject" / "subject.py").read_text(encoding="utf-8"))
    assert f"vfio_verify.subject.{module}" not in {n.module for n in tree.body if isinstance(n, ast.ImportFrom)}
