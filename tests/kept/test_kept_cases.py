"""The cases of tests/corpus/: the core passes them all, and each subject that was found by one still fails it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from places import TESTS
from subject_files import built_once

from vfio_verify.campaign.replay import replay
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import Kept
from vfio_verify.subject.subject import CORE
from vfio_verify.values.case import KERNEL_FAULT_KINDS, Step
from vfio_verify.values.spec import clauses

KEPT = list(DirectoryCorpus(TESTS / "corpus").load())
FOUND = {
    subject: list(group)
    for subject, group in itertools.groupby(
        sorted((s for s in KEPT if s.entry.origin), key=lambda s: s.entry.origin.subject),
        key=lambda s: s.entry.origin.subject,
    )
}


def test_the_core_fails_none():
    seen = dict(zip([s.entry.name for s in KEPT], replay(CORE, [s.entry for s in KEPT]), strict=True))
    assert {name: outcome.status for name, outcome in seen.items()} == {
        s.entry.name: "fixed" if s.entry.origin else "passes" for s in KEPT
    }


@pytest.mark.parametrize(("subject", "kept"), FOUND.items(), ids=lambda value: Path(str(value)[:80]).stem)
def test_the_subject_that_was_found_still_fails(subject: str, kept: list[Kept]):
    if any(s.entry.clause == "UNCHARGED" for s in kept) and overcommits_without_limit():
        pytest.skip("this kernel refuses no mapping for want of memory")
    with built_once(TESTS / subject) as opened:
        seen = dict(zip([s.entry.name for s in kept], replay(opened, [s.entry for s in kept]), strict=True))
    assert {name: outcome.status for name, outcome in seen.items()} == dict.fromkeys(seen, "still failing")


def overcommits_without_limit() -> bool:
    return Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1"


def test_there_is_a_case_for_each_clause_and_each_kind_of_fault():
    assert {s.entry.clause for s in KEPT} >= set(clauses())
    faults = [fault for s in KEPT for fault in s.entry.case.fault_plan]
    assert {fault.step for fault in faults} == set(Step.__args__)  # type: ignore[attr-defined]  # a Literal has them
    assert {(f.when, f.persistent) for f in faults if f.step == "mmap"} == set(
        itertools.product(("early", "late"), (False, True))
    )
    pairs = {tuple(f.step for f in s.entry.case.fault_plan) for s in KEPT if len(s.entry.case.fault_plan) > 1}
    assert {("mmap", "munmap"), ("mmap", "mmap")} <= pairs
    assert {s.entry.case.kernel_fault.kind for s in KEPT if s.entry.case.kernel_fault} == set(KERNEL_FAULT_KINDS)
    assert any(s.entry.case.sequence for s in KEPT)
    assert any(s.entry.case.concurrent for s in KEPT)


def test_files_are_named_and_laid_out_as_the_program_does_it():
    for place, entry in KEPT:
        path = Path(place)
        assert (path.name, path.read_bytes()) == (entry.name, entry.to_json())
