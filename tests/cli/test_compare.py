"""``vfio-verify compare``: two and three versions, a series, what cannot be compared, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from commands import run, run_anew, started
from subject_files import DIRECTORY, needs_compiler

pytestmark = needs_compiler

GOOD = (
    (DIRECTORY / "correct" / "check_first.c")
    .read_text()
    .partition("\n\n")[2]
    .replace("MAP_SHARED | MAP_ANONYMOUS", "MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE")
)
NEWLINE = GOOD.replace('"the dmabuf has no entries"', '"the dmabuf has no entries\\n"')
KEPT = GOOD.replace("            munmap(map, total_size);\n", "")
FEW = ("--examples", 10, "--jobs", 1)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    for name, text in {"good.c": GOOD, "newline.c": NEWLINE, "kept.c": KEPT}.items():
        (tmp_path / name).write_text(text)
    half = GOOD.replace("if (!block) {", "if (!block {")
    (tmp_path / "half.c").write_text(half)
    (tmp_path / "half.mbox").write_text(mail("[PATCH v5] a", GOOD) + mail("[PATCH v6] a", half))
    (tmp_path / "thread.mbox").write_text(mail("[PATCH v6] a", KEPT) + mail("[PATCH v5] a", NEWLINE))
    return tmp_path


def mail(subject: str, text: str) -> str:
    lines = text.splitlines()
    diff = f"--- /dev/null\n+++ b/hw/a.c\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    return f"From: A <a@example.org>\nTo: b@example.org\nSubject: {subject}\n\n{diff}-- \n2\n\n"


def compared(desk: Path, *arguments: object) -> tuple[int, dict[str, object]]:
    done = run("compare", *arguments, *FEW, "--json", "-", cwd=desk)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    schema = json.loads(files("vfio_verify.specs").joinpath("schemas", "comparison.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(report)
    return done.returncode, report


def changes(report: dict[str, object]) -> dict[str, str]:
    return {one["violation"]["clause"]: one["change"] for one in report["violations"]}


def statuses(report: dict[str, object], clause: str) -> list[str]:
    return next(row["statuses"] for row in report["clauses"] if row["id"] == clause)


def test_one_fault_is_fixed_and_another_came_in(desk: Path) -> None:
    done = run_anew("compare", "newline.c", "kept.c", *FEW, cwd=desk)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("kept.c against newline.c: 1 came in, 1 fixed\n")
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "--case" not in line)
    came_in, fixed = re.findall(r"^   (vfio-verify check .*)", done.stdout, re.MULTILINE)
    for line, name, clause in ((came_in, "kept.c", "UNMAP_ON_ERROR"), (fixed, "newline.c", "ERROR_SET")):
        words = shlex.split(line)[1:]
        assert words[1] == name
        again = run(*words, cwd=desk)
        assert (again.returncode, clause in again.stdout) == (1, True)
    assert re.search(r"^UNMAP_ON_ERROR  stated   holds +violated$", done.stdout, re.MULTILINE)
    assert re.search(r"^ERROR_SET       derived  violated +holds$", done.stdout, re.MULTILINE)
    assert "found: kept.c: UNMAP_ON_ERROR" in done.stderr


def test_an_order_of_three_and_the_core_beside_them(desk: Path) -> None:
    status, report = compared(desk, "newline.c", "kept.c", "core")
    assert status == 0
    assert report["verdict"] == "nothing came in"
    assert changes(report) == {"UNMAP_ON_ERROR": "in between", "ERROR_SET": "fixed"}
    assert [one["label"] for one in report["versions"]] == ["newline.c", "kept.c", "core"]
    assert [one["verdict"] for one in report["versions"]] == ["violates", "violates", "conforms"]
    assert statuses(report, "UNMAP_ON_ERROR") == ["holds", "violated", "holds"]


def test_the_same_version_twice_is_no_news(desk: Path) -> None:
    status, report = compared(desk, "kept.c", "kept.c")
    assert status == 0
    assert changes(report) == {"UNMAP_ON_ERROR": "still violated"}
    assert len(report["violations"]) == 1
    assert all(len(set(row["statuses"])) == 1 for row in report["clauses"])
    assert [one["label"] for one in report["versions"]] == ["A", "B"]


@pytest.mark.parametrize("name", ["thread.mbox", "-"])
def test_a_series_is_compared_as_it_is_from_its_first_version_on(desk: Path, name: str) -> None:
    text = (desk / "thread.mbox").read_text()
    done = run("compare", name, *FEW, "--json", "-", cwd=desk, text=text)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert [one["label"] for one in report["versions"]] == ["v5", "v6"]
    assert changes(report) == {"UNMAP_ON_ERROR": "came in", "ERROR_SET": "fixed"}
    command_of_v6 = next(one["command"] for one in report["violations"] if one["version"] == "v6")
    assert command_of_v6.startswith(f"vfio-verify check {name} --version 6 --function vfio_device_mmap_dmabuf --case")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("good.c", "half.c"), r"half\.c:58:15: expected"),
        (("good.c", "none.c"), r"none\.c: no such file"),
        (("good.c",), r"good\.c is one version; give two or more"),
        (("core",), r"core is one version"),
        (("thread.mbox", "--version", 5), r"thread\.mbox is one version"),
        (("half.mbox",), r"half\.mbox --version 6: .*hw/a\.c:58:15: expected"),
        (("thread.mbox", "good.c"), r"thread\.mbox holds several versions.*--version N"),
    ],
)
def test_what_cannot_be_compared_is_named(desk: Path, names: tuple[object, ...], said: str) -> None:
    done = run("compare", *names, *FEW, cwd=desk)
    assert done.returncode == 2
    assert re.search(said, done.stderr, re.DOTALL), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_it_and_prints_what_was_found(desk: Path, jobs: int) -> None:
    process = started("compare", "good.c", "newline.c", "--examples", 1_000_000, "--jobs", jobs, cwd=desk)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("found: newline.c: ERROR_SET")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "newline.c: Seen once, but not yet run again: ERROR_SET" in out
    assert "interrupted" in out
    assert not list(desk.glob("vfio-verify-*"))
