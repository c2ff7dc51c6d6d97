"""Proofs of the core: the C that Cython made of it, of which the extension module was compiled."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import commands
import pytest
from msgspec.structs import replace
from places import CHECKOUT

from vfio_verify.prove import native
from vfio_verify.prove import text as texts
from vfio_verify.prove.cbmc import Builder, Solvers
from vfio_verify.prove.exhaust import exhaust
from vfio_verify.prove.given import Bounds
from vfio_verify.prove.plan import Part
from vfio_verify.prove.programs import Programs
from vfio_verify.prove.proof import Options
from vfio_verify.subject.subject import CORE

MODEL = CHECKOUT / "specs" / "model"


@pytest.mark.usefixtures("untraced")
def test_nothing_is_found_of_the_core_in_a_small_scope():
    proof = exhaust(CORE, Options(1, jobs=2))
    assert (proof.confirmed, proof.why, proof.disagreements) == ((), {}, ())
    assert proof.inputs > 150_000


@pytest.mark.parametrize(
    ("method", "clauses"),
    [
        ("check_blocks", {"ACCEPTS_VALID"}),
        ("unmap", {"UNMAP_ON_ERROR"}),
        ("overlay", {"CONTIGUOUS"}),
        ("forget", {"REPEATABLE"}),
        ("fail", {"NOT_EMPTY", "SIZE_AGREES", "SAME_BLOCK", "WITHIN_BLOCK", "ALIGNED", "FAULT_REPORTED"}),
    ],
)
@pytest.mark.usefixtures("untraced")
def test_what_the_core_violates_without_one_of_its_functions_is_found(method, clauses, tmp_path, monkeypatch):
    text = texts.text_of(CORE, MODEL)
    begins = re.compile(rf"(^static (?:int|void) \w+Placeholder_{method}\([^;{{]*\) \{{\n)", re.MULTILINE)
    without, count = begins.subn(r"\1if (1) return 0;\n", text.own[0].read_text())
    assert count == 1
    (tmp_path / "_core.c").write_text(without)
    shutil.copy(text.own[1], tmp_path)
    changed = replace(text, directory=str(tmp_path), readable=(*text.readable, tmp_path))
    monkeypatch.setattr(native, "text_of", lambda *_: changed)
    program = native.build(CORE, tmp_path, Bounds(1, 2, 2, 40))
    found = set()
    for one in native.exhaust(program, 1, 0, 1, set()):
        found |= one.clauses if isinstance(one, native.Found) else set()
    assert clauses <= found


def test_a_core_without_its_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "find_spec", lambda _: type("Spec", (), {"origin": str(tmp_path / "_core.so")}))
    with pytest.raises(texts.InputError, match="build it anew"):
        texts.text_of(CORE, MODEL)


def test_a_python_without_headers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(texts.sysconfig, "get_config_var", lambda _: str(tmp_path))
    with pytest.raises(texts.InputError, match="apt-get install python3-dev"):
        texts.text_of(CORE, MODEL)


@pytest.mark.usefixtures("untraced")
def test_cbmc_reads_the_core_and_passes_over_nothing(cbmc, tmp_path):
    with ExitStack() as stack:
        include = stack.enter_context(as_file(files("vfio_verify") / "include"))
        solvers = Solvers(60)
        stack.callback(solvers.end)
        builder, text = Builder(cbmc, tmp_path, solvers), texts.text_of(CORE, MODEL)
        programs = Programs(builder, CORE, text, Options(1), model=MODEL, include=include)
        programs.read_subject()
        program = programs.of(Part(0, ("READ_ONLY",), 1), assumed=False)
    assert programs.passed_over == ()
    assert [one.description for one in program.properties if one.of_model].count("READ_ONLY") == 1


@pytest.mark.prove
def test_a_clause_of_the_core_is_proved(cbmc, tmp_path):
    told = commands.run("prove", "core", "--segments", 1, "--clause", "READ_ONLY", "--jobs", 2, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "proved (<= 1 segment)" in told.stdout


@pytest.mark.prove
def test_the_core_is_proved_for_two_segments(cbmc, tmp_path):
    told = commands.run("prove", "core", "--json", "-", "--certificate", "core.json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert {one["status"] for one in json.loads(told.stdout)["clauses"]} == {"proved"}
    assert Path(tmp_path / "core.json").exists()
