"""Proofs by CBMC: the command, what becomes of answers, and what is told where there is none."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import commands
import proved_texts
import pytest
from places import TESTS
from waiting import has_started, until

from vfio_verify.campaign import options as campaign
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.judge import Verdict
from vfio_verify.prove import cbmc as solver
from vfio_verify.prove import certificate, constructs, plan, prove
from vfio_verify.prove.cbmc import Failed, Solvers, find, read_answer
from vfio_verify.prove.programs import question_text
from vfio_verify.prove.proof import Options, Proof, provable
from vfio_verify.prove.real_runs import Disagreement, RealRuns
from vfio_verify.report.report import make_proof_report
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.values.spec import clauses

CORRECT = TESTS / "subjects" / "correct" / "check_first.c"
BROKEN = TESTS / "subjects" / "broken"


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def fake(directory: Path, text: str) -> str:
    for name in ("goto-cc", "goto-instrument"):
        program(directory / name, "exit 1")
    return program(directory / "cbmc", text)


# ---- what the spec and the model say -----------------------------------------------------------------------------


def test_the_spec_and_the_model_decide_the_same_clauses():
    model = (files("vfio_verify.specs") / "model" / "model.h").read_text()
    listed = model.partition("#define VM_CLAUSES(X)")[2].partition("\nenum")[0]
    assert re.findall(r"X\((\w+)\)", listed) == list(provable())


def test_the_parts_cover_each_clause_in_each_shape_but_those_of_two_calls():
    parts = list(plan.plan(provable(), 3, Subject("x", "C", "f", "s")))
    for name in provable():
        shapes = {plan.OTHER_DEVICE} if name == "REPEATABLE" else set(plan.SHAPES)
        assert {part.shape for part in parts if name in part.clauses} == shapes
    assert {part.segments for part in parts if part.valid} == {1, 2, 3}
    assert {part.segments for part in parts if "CONTENTS" in part.clauses} == {0, 1, 2, 3}
    said = {part.clauses: set(provable()) - part.unsaid for part in parts if part.calls > 1}
    assert said == {("REPEATABLE",): {"ACCEPTS_VALID"}, ("REPEATABLE", "SURVIVES"): set(provable()) - {"ACCEPTS_VALID"}}


# ---- answers of CBMC -----------------------------------------------------------------------------------------------


def answer(name: str, description: str, *steps: dict[str, object]) -> bytes:
    failure = {
        "stepType": "failure",
        "sourceLocation": {"file": "a/x.c", "line": "7", "function": "f"},
    }
    said = {"property": name, "description": description, "status": "failed", "trace": [*steps, failure]}
    return json.dumps([{"program": "CBMC 6.6.0"}, {"messageText": "x", "messageType": "STATUS-MESSAGE"}, said]).encode()


def assigned(lhs: str, value: int) -> dict[str, object]:
    return {"stepType": "assignment", "lhs": lhs, "value": {"binary": f"{value:064b}", "data": "whatever"}}


def test_an_answer_gives_the_last_value_of_each_field():
    told = answer(
        "hold.assertion.2",
        "CONTENTS",
        assigned("vm_given.call[0l].segment[1l].length", 5),
        assigned("vm_given.call[0l].segment[1l].length", 1 << 63),
        assigned("other", 1),
        {"stepType": "function-call"},
    )
    given = {"call[0].segment[1].length": 1 << 63}
    assert read_answer(10, told) == Failed("hold.assertion.2", "CONTENTS", "a/x.c", 7, "f", given)


def test_no_property_failed():
    assert read_answer(0, b"[]") is None


@pytest.mark.parametrize(
    ("status", "told", "words"),
    [
        (6, b'[{"messageType": "ERROR", "messageText": "no such property"}]', "exit status 6.*no such property"),
        (10, b"[]", "exit status 10"),
        (1, b"not JSON", "not JSON"),
    ],
)
def test_what_is_no_answer_is_the_harnesss_failure(status, told, words):
    with pytest.raises(HarnessError, match=words):
        read_answer(status, told)


@pytest.mark.parametrize("text", ["echo std::bad_alloc; exit 1", "kill -ABRT $$", "echo Out of memory; exit 6"])
def test_memory_that_is_used_up_is_told_by_itself(tmp_path, text):
    with pytest.raises(solver.OutOfMemoryError):
        Solvers(None).run([program(tmp_path / "p", text)], tmp_path)


def test_a_program_is_ended_with_its_children_when_the_time_is_up(tmp_path):
    begun = time.monotonic()
    with pytest.raises(solver.OutOfTimeError):
        Solvers(0.2).run([program(tmp_path / "p", "sleep 60 & wait")], tmp_path)
    assert time.monotonic() - begun < 10


# ---- constructs ------------------------------------------------------------------------------------------------------


def found(text: str) -> Iterable[constructs.PassedOver]:
    return list(constructs.passed_over(constructs.own_lines(text, ["/world"])))


def test_what_cbmc_passes_over_is_found_with_its_line_in_the_subjects_own_text():
    text = '# 1 "/world/x.h"\nasm("nop");\n# 3 "/usr/include/y.h" 1 3\nasm("nop");\n# 10 "dir/x.c"\nint a;\nasm("");\n'
    (one,) = found(text)
    assert one.why == "assembly, x.c:11"
    assert one.concerns("CONTENTS")


def test_the_end_of_a_scope_concerns_what_it_does():
    (one,) = found('# 1 "x.c"\n__attribute__((cleanup(vfio_verify_autofree))) char *p = "asm";\n')
    assert one.concerns("NO_LEAK")
    assert one.concerns("REPEATABLE")
    assert not one.concerns("CONTENTS")
    (other,) = found('# 1 "x.c"\nint fd __attribute__((cleanup(close_it))) = 3;\n')
    assert other.concerns("CONTENTS")


# ---- a refutation and its real run -----------------------------------------------------------------------------------


def refuted(clause: str, verdict: Verdict, *, assumed: bool = False) -> tuple[set[str], Disagreement | None]:
    part = plan.Part(0, (clause,), 1)
    work = prove._Work(CORE, [clause], SimpleNamespace(passed_over=()))
    given = {
        **{f"region[{r}].size": 1 << 20 for r in range(2)},
        **{f"region[{r}].index": r for r in range(2)},
        "area[0][0].size": 4096,
        "area[0][1].offset": 8192,
        "area[0][1].size": 4096,
        "area[1][0].size": 1 << 20,
        "region[1].offset": 1 << 40,
        "region[0].sparse": 1,
        "block[0].size": 4096,
        "block[1].size": 4096,
        "block[2].size": 4096,
        "call[0].n": 1,
        "call[0].total_size": 4096,
        "call[0].segment[0].length": 4096,
    }
    failed = Failed("hold.assertion.1", clause, "x.c", 1, "f", given)
    runner = SimpleNamespace(run_and_judge=lambda _: (None, verdict))
    return work._run_for_real(part, failed, assumed, RealRuns(CORE, runner, lambda _: None))


def test_a_refutation_that_the_run_does_not_show_is_a_disagreement():
    shown, against = refuted("CONTENTS", Verdict(frozenset(), ()))
    assert not shown
    assert (against.clause, against.model, against.run) == ("CONTENTS", "CONTENTS", "no violation")


def test_what_c_leaves_undefined_and_a_run_does_not_show_is_not_decided():
    """A write that ends behind an array may change nothing there that anybody reads."""
    description = "dereference failure: pointer outside object bounds in dst[i]"
    shown, against = refuted(description, Verdict(frozenset(), ()))
    assert (shown, against) == (set(), None)


def proof(**changes: object) -> Proof:
    options = Options(clauses=("CONTENTS", "NO_LEAK"))
    usual = {"proved": frozenset(options.clauses), "why": {}}
    return Proof(options=options, version="6.6.0", unit="u", model="m", **(usual | changes))


def report(**changes: object):
    subject = Subject("x.c", "C", "f", "bool f(Error **errp)")
    return make_proof_report(subject, campaign.Options(), proof(**changes))


def test_exit_statuses():
    left = {"proved": frozenset({"CONTENTS"}), "why": {"NO_LEAK": "out of time"}}
    _, against = refuted("CONTENTS", Verdict(frozenset(), ()))
    assert report().exit_status == 0
    assert report(**left).exit_status == 4
    assert report(interrupted=True, **left).exit_status == 130
    assert report(disagreements=(against,), **left).exit_status == 3


def test_statuses_are_told_with_their_bound_or_reason():
    told = [one.told for one in report(proved=frozenset({"CONTENTS"}), why={"NO_LEAK": "out of time"}).clauses]
    assert told == ["proved (<= 2 segments)", "not decided (out of time)"]


def test_a_certificate_tells_what_is_otherwise():
    before = certificate.certificate("x.c", "f", proof())
    now = certificate.certificate("x.c", "f", proof(why={"NO_LEAK": "out of time"}, proved=frozenset({"CONTENTS"})))
    assert not before.differences(before)
    assert before.differences(now) == ["NO_LEAK: proved, now not decided (out of time)"]


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_without_cbmc_it_is_said_how_to_install_it(no_cbmc, tmp_path):
    told = commands.run("prove", CORRECT, cwd=tmp_path)
    assert told.returncode == 2
    for word in ("Debian 13", "Fedora", "brew install cbmc", "Debian 12", "docs/prove.md"):
        assert word in told.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo '5.95.1 (cbmc-5.95.1)'", "is CBMC 5.95.1; a proof needs 6.0 or later"),
        ("echo hello", "does not say its version"),
        ("exit 3", "does not say its version"),
    ],
)
def test_what_is_no_usable_cbmc_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        find(fake(tmp_path, text))


def test_cbmc_without_the_programs_beside_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="no goto-cc and goto-instrument"):
        find(program(tmp_path / "cbmc", "echo 6.6.0"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CORRECT, "--timeout", "soon"), "soon is no time"),
        ((CORRECT, "--clause", "NONE"), "there is no clause NONE"),
        ((CORRECT, "--verify", "/nowhere"), "cannot read the certificate"),
    ],
)
def test_bad_input_is_one_message(tmp_path, arguments, words):
    told = commands.run("prove", *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert words in told.stderr
    assert told.stderr.count("\n") == 1


def test_every_provable_clause_says_what_is_looked_at():
    assert [name for name, clause in clauses().items() if not clause.proof] == ["UNCHARGED"]


# ---- with CBMC -----------------------------------------------------------------------------------------------------


REFUSES = """
bool refuse(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp);
bool refuse(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    error_setg(errp, "no");
    return false;
}
"""


def test_what_holds_is_proved(cbmc, tmp_path):
    subject = tmp_path / "refuses.c"
    subject.write_text(REFUSES)
    told = commands.run("prove", subject, "--segments", 1, "--clause", "READ_ONLY", "--jobs", 2, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "proved (<= 1 segment)" in told.stdout


FOLLOWS_NULL = """#include "qemu/osdep.h"
#include "qapi/error.h"
bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp);

/* The model has a function of this name. */
static void judge_answer(unsigned *p)
{
    *p = 1;
}

bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    judge_answer(n == 1 ? NULL : &n);
    error_setg(errp, "no");
    return false;
}
"""


def test_each_way_of_asking_has_the_same_answer(cbmc, tmp_path, monkeypatch):
    ways = list(itertools.islice(solver.ways(), 4))
    assert {(way.subject_first, way.preprocessed) for way in ways} == set(itertools.product((False, True), repeat=2))
    path = tmp_path / "s.c"
    path.write_text(FOLLOWS_NULL)
    with open_subject(str(path)) as subject:
        for way in ways:
            monkeypatch.setattr(solver, "ways", lambda way=way: iter([way]))
            proof = prove.prove(subject, Options(1, ("SURVIVES",), jobs=1), cbmc)
            assert [one.clauses for one in proof.confirmed] == [("SURVIVES",)], proof.why


def test_a_question_that_takes_long_is_asked_in_another_way(cbmc, tmp_path, monkeypatch):
    monkeypatch.setattr(solver, "PATIENCE", 0.01)
    path = tmp_path / "refuses.c"
    path.write_text(REFUSES)
    with open_subject(str(path)) as subject:
        proof = prove.prove(subject, Options(1, ("READ_ONLY",), jobs=2), cbmc)
    assert proof.proved == {"READ_ONLY"}, proof.why


@pytest.mark.prove
def test_a_certificate_holds_for_the_same_text_and_no_other(cbmc, tmp_path):
    subject = tmp_path / "refuses.c"
    subject.write_text(REFUSES)
    asked = ("prove", subject, "--segments", 1, "--clause", "READ_ONLY", "--jobs", 2)
    told = commands.run(*asked, "--certificate", "c.json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    again = commands.run("prove", subject, "--verify", "c.json", "--jobs", 2, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "the same as the certificate says\n")
    subject.write_text(REFUSES.replace('"no"', '"never"'))
    other = commands.run("prove", subject, "--verify", "c.json", "--jobs", 2, cwd=tmp_path)
    assert other.returncode == 1
    assert other.stderr == "differs: the text of the subject is another\n"


@pytest.mark.prove
def test_a_check_proves_besides(cbmc, tmp_path):
    told = commands.run("check", CORRECT, "--prove", "--segments", 1, "--examples", 20, "--json", "-", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    statuses = {one["id"]: one["status"] for one in json.loads(told.stdout)["clauses"]}
    assert {status for name, status in statuses.items() if name != "UNCHARGED"} == {"proved"}
    assert json.loads(told.stdout)["verdict"] == "conforms"


def test_time_that_is_up_leaves_clauses_undecided(cbmc, tmp_path):
    told = commands.run("prove", CORRECT, "--timeout", "1s", "--json", "-", cwd=tmp_path)
    assert told.returncode == 4, told.stderr
    assert {one["proof"] for one in json.loads(told.stdout)["clauses"]} == {"out of time"}


def test_ctrl_c_prints_what_is_decided(cbmc, tmp_path):
    process = commands.started("prove", CORRECT, "--jobs", 1, cwd=tmp_path)
    until("it asks", lambda: has_started(process.pid, "--slice-formula"), 60)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "not decided (interrupted)" in told
    assert not list(tmp_path.glob("vfio-verify-*"))


def test_a_refutation_is_confirmed_by_a_real_run(cbmc, tmp_path):
    asked = ("--segments", 1, "--clause", "READ_ONLY", "--json", "-", "--jobs", 2)
    told = commands.run("prove", BROKEN / "executable_overlays.c", *asked, cwd=tmp_path)
    assert told.returncode == 1, told.stderr
    assert [one["clause"] for one in json.loads(told.stdout)["violations"]] == ["READ_ONLY"]
    assert told.stderr.startswith("found: READ_ONLY")


NESTED = """{
    bool refuse(const char *why) { error_setg(errp, "%s", why); return false; }

    return refuse("no");
}
"""


def test_what_cbmc_cannot_parse_is_told_with_its_line(cbmc, tmp_path):
    """GCC takes a function within another."""
    subject = tmp_path / "nested.c"
    subject.write_text(proved_texts.HEAD + NESTED)
    told = commands.run("prove", subject, cwd=tmp_path)
    assert (told.returncode, told.stdout) == (2, "")
    where = f"{subject}:6:1"
    assert told.stderr == f"vfio-verify: CBMC cannot parse {subject}: {where}: error: syntax error before '{{'\n"


FREES_TWICE = """{
    char *text = g_malloc0(8);

    if (n == 1) { g_free(text); }
    g_free(text);
    error_setg(errp, "no");
    return false;
}
"""
WRITES_BEHIND = """{
    static char text[4];

    if (n == 1) { strcpy(text, "more than four"); }
    error_setg(errp, "no");
    return false;
}
"""


def test_what_is_freed_twice_does_not_survive(cbmc, tmp_path):
    told = proved_texts.prove(tmp_path / "twice.c", FREES_TWICE, "SURVIVES")
    assert told.returncode == 1, told.stderr


@pytest.mark.prove
def test_what_the_c_library_is_told_to_write_behind_an_array_is_seen_with_the_line(cbmc, tmp_path):
    told = proved_texts.prove(tmp_path / "behind.c", WRITES_BEHIND, "SURVIVES")
    assert told.returncode == 4, told.stderr
    (why,) = [one["proof"] for one in json.loads(told.stdout)["clauses"]]
    assert "outside object bounds" in why
    assert why.endswith("a real run does not show, behind.c:8")


@pytest.mark.prove
@pytest.mark.parametrize("name", ["retried_for_ever", "lock_kept_on_refusal"])
def test_what_never_ends_does_not_survive(cbmc, tmp_path, name):
    """A loop that goes on for ever, and a lock that a second call waits for."""
    asked = ("--segments", 1, "--clause", "SURVIVES", "--json", "-", "--jobs", 2)
    told = commands.run("prove", BROKEN / f"{name}.c", *asked, cwd=tmp_path)
    assert told.returncode == 1, told.stderr
    assert [one["clause"] for one in json.loads(told.stdout)["violations"]] == ["SURVIVES"]


# ---- the questions ---------------------------------------------------------------------------------------------------

KEEPS_ALL = """
#define main all
#include "cbmc.c"
#undef main

/* Bits that no case has may be lost: of a fault that is not planned, and of a second area that the region lacks. */
static struct vm_given given_of_case(void)
{
    struct vm_given given = vm_given;
    unsigned i;

    for (i = 0; i < VM_FAULTS; i++) {
        if (!given.fault[i].used) {
            given.fault[i].step = given.fault[i].nth = given.fault[i].error = 0;
            given.fault[i].late = given.fault[i].persistent = 0;
        }
    }
    for (i = 0; i < VM_REGIONS; i++) {
        if (given.region[i].n_areas == 1) {
            given.area[i][1].offset = given.area[i][1].size = 0;
        }
    }
    return given;
}

/* Within the bounds that the spec names for ACCEPTS_VALID. */
static void well_formed(void)
{
    const unsigned last = VM_CALLS - 1;
    const struct vm_expected expected = vm_expect(last);

    __CPROVER_assume(vm_given.call[last].n == vm_question.valid && !expected.refusals && !expected.either);
    __CPROVER_assume(!vm_in_page(vm_given.region[1].size) && !vm_in_page(vm_given.area[1][0].size));
    __CPROVER_assume(vm_given.region[0].n_areas == 1 || !vm_in_page(vm_given.area[0][1].size));
    __CPROVER_assume(VM_CALLS > 1 || !vm_given.fault[0].used);
}

int main(void)
{
    struct vm_given before, after;
    unsigned i;

    vm_given = nondet_given();
    fix_shape();
    __CPROVER_assume(vm_is_given());
    for (i = 0; i < VM_REGIONS && vm_question.aligned; i++) {
        __CPROVER_assume(!(vm_given.region[i].offset & (VM_MOST_BYTES - 1)));
    }
    if (vm_question.valid) {
        well_formed();
    }
    before = given_of_case();
    narrow();
    make_valid();
    after = given_of_case();
    for (i = 0; i < sizeof(before) / sizeof(u64); i++) {
        __CPROVER_assert(((u64 *)&before)[i] == ((u64 *)&after)[i], "none is lost");
    }
    return 0;
}
"""


PARTS = [part for part in plan.plan(provable(), 2, CORE) if part.segments]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_input_is_lost_by_what_cbmc_is_told_of_them(cbmc, tmp_path, part):
    (tmp_path / "keeps.c").write_text(KEEPS_ALL)
    model = Path(str(files("vfio_verify.specs") / "model"))
    (tmp_path / "question.c").write_text(question_text(part.question | {"exactly": plan.ANY}, model))
    told = subprocess.run(
        [
            cbmc.cbmc, "keeps.c", "question.c", *(model / name for name in ("given.c", "layout.c")), f"-I{model}",
            f"-I{files('vfio_verify') / 'include'}", *part.bounds.defines, "--unwind", "100", "--unwinding-assertions",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "VERIFICATION SUCCESSFUL" in told.stdout, told.stdout[-2000:]
