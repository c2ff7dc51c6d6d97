"""`prove --exhaust`: all of a small scope in the model, compiled."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import commands
import pytest
from places import TESTS
from proved_texts import HEAD
from waiting import has_started, until

from vfio_verify.judge import Violation
from vfio_verify.prove import exhaust, native
from vfio_verify.prove.proof import Options, Proof
from vfio_verify.subject.subject import open_subject

CORRECT, BROKEN = TESTS / "subjects" / "correct", TESTS / "subjects" / "broken"


def run(path: Path, segments: int = 1, **options: object) -> tuple[Proof, list[str]]:
    heard: list[str] = []

    def hear(violation: Violation) -> None:
        heard.append(violation.clause)

    with open_subject([str(path)]) as subject:
        return exhaust.exhaust(subject, Options(segments, **options), hear), heard


@pytest.mark.parametrize("jobs", [1, 3])
def test_nothing_is_found_of_a_correct_subject_and_the_parts_make_the_whole(jobs):
    proof, heard = run(CORRECT / "check_first.c", jobs=jobs)
    assert (proof.confirmed, proof.why, proof.disagreements, heard) == ((), {}, (), [])
    assert proof.inputs > 150_000
    assert proof.inputs == run(CORRECT / "check_first.c", jobs=2)[0].inputs


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("end_unchecked", "WITHIN_BLOCK"),
        ("hint_taken_for_answer", "CONFINED"),
        ("autofree_uninitialised", "SURVIVES"),
        ("entry_zero_read", "SURVIVES"),
        ("closed_descriptor_remembered", "REPEATABLE"),
        ("bounded_by_region_size", "ACCEPTS_VALID"),
        ("reference_kept_on_error", "NO_LEAK"),
    ],
)
def test_what_a_broken_subject_violates_is_found_and_confirmed(name, clause):
    proof, heard = run(BROKEN / f"{name}.c", 1, jobs=2)
    assert clause in {one.clause for one in proof.confirmed}
    assert clause in heard
    assert clause not in proof.proved
    assert not proof.disagreements


def test_a_subject_that_never_returns_does_not_survive(tmp_path):
    path = tmp_path / "endless.c"
    path.write_text(HEAD + '{ while (n == 1) { } error_setg(errp, "no"); return false; }\n')
    proof, _ = run(path, clauses=("SURVIVES",))
    assert [one.clause for one in proof.confirmed] == ["SURVIVES"]


def test_a_violation_that_a_real_run_does_not_show_is_a_disagreement(monkeypatch):
    monkeypatch.setattr(exhaust.RealRuns, "run", lambda *_: (set(), "no violation"))
    proof, heard = run(BROKEN / "end_unchecked.c")
    assert {one.clause for one in proof.disagreements} >= {"WITHIN_BLOCK"}
    assert "WITHIN_BLOCK" not in proof.proved
    assert not proof.confirmed
    assert not heard


READS = """
{
    volatile char *host = n ? iov[0].iov_base : NULL;
    if (n && total_size == 4096 && *host) { error_setg(errp, "set"); return false; }
    error_setg(errp, "no"); return false;
}
"""


def test_inputs_for_which_the_model_has_no_memory_leave_clauses_undecided(tmp_path):
    path = tmp_path / "reads.c"
    path.write_text(HEAD + READS)
    proof, _ = run(path, clauses=("CONFINED",))
    assert "the model does not have bytes of memory that is read" in proof.why["CONFINED"]
    assert not proof.proved


SCRIBBLES = """
{
    if (n == 1 && total_size == 4096) { for (int i = 0; i < 65536; i++) { ((volatile char *)&errp)[i] = 1; } }
    error_setg(errp, "no"); return false;
}
"""


def test_a_subject_that_writes_over_the_model_leaves_clauses_undecided(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "SILENCE", 3.0)
    path = tmp_path / "scribbles.c"
    path.write_text(HEAD + SCRIBBLES)
    proof, _ = run(path, clauses=("CONTENTS",))
    assert proof.why["CONTENTS"]
    assert not proof.proved


def test_time_that_is_up_leaves_clauses_undecided():
    for seconds in (3, 6, 12):  # a slow machine takes some to compile
        proof, _ = run(CORRECT / "check_first.c", 3, jobs=2, seconds=seconds)
        assert set(proof.why.values()) == {"out of time"}
        assert proof.seconds < seconds + 17
        if proof.inputs:
            break
    assert proof.inputs


def test_the_command_tells_what_was_run(tmp_path):
    told = commands.run("prove", CORRECT / "check_first.c", "--exhaust", "--segments", 1, "--json", "-", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["verdict"] == "conforms"
    assert {one["status"] for one in report["clauses"]} == {"holds"}
    assert report["proof"]["inputs"] > 150_000
    assert "cbmc" not in report["proof"]
    told = commands.run("prove", CORRECT / "check_first.c", "--exhaust", "--segments", 1, cwd=tmp_path)
    assert "conforms in all of a small scope" in told.stdout
    assert "REPEATABLE      derived  holds (" in told.stdout


def test_a_violation_is_kept_for_replay(tmp_path):
    subject = BROKEN / "end_unchecked.c"
    told = commands.run("prove", subject, "--exhaust", "--segments", 1, "--corpus", "kept", cwd=tmp_path)
    assert told.returncode == 1
    assert "kept: 1 of 1 violations are new in kept" in told.stderr
    assert commands.run("replay", "kept", "--subject", subject, cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CORRECT / "assembly.c",), "the model does not have assembly, assembly.c:15"),
        ((CORRECT / "pipe_probed.c",), "the model does not have pipe2"),
        ((CORRECT / "check_first.c", "--certificate", "c.json"), "--exhaust needs no --cbmc"),
    ],
)
def test_bad_input_is_one_message(tmp_path, arguments, words):
    told = commands.run("prove", "--exhaust", *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert words in told.stderr
    assert told.stderr.count("\n") == 1


def test_ctrl_c_ends_it_with_what_is_known(tmp_path):
    process = commands.started("prove", "--exhaust", "--segments", 3, CORRECT / "check_first.c", cwd=tmp_path)
    until("the programs run", lambda: has_started(process.pid, "exhaust"), 60)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "not decided (interrupted)" in told
    assert not list(tmp_path.glob("vfio-verify-*"))


@pytest.mark.prove
@pytest.mark.parametrize("path", sorted(CORRECT.glob("*.c")), ids=lambda path: path.stem)
def test_nothing_is_found_of_any_correct_subject(path):
    try:
        proof, heard = run(path, 2, jobs=2)
    except native.InputError as error:
        pytest.skip(str(error))
    assert (proof.confirmed, proof.disagreements, heard) == ((), (), [])
