"""The two oracles against each other: the model in Python and the judge, and the model in C (specs/model)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from vfio_verify.corpus.entry import read_entry
from vfio_verify.generate.layouts import any_case
from vfio_verify.generate.sweep import MMAP_ERRNOS, OTHER_ERRNOS
from vfio_verify.judge import Violation
from vfio_verify.prove import native
from vfio_verify.prove.given import DEVICES, REGIONS, STEPS, Bounds, Given, case_of, fields, given_of
from vfio_verify.prove.proof import provable
from vfio_verify.subject.subject import open_subject
from vfio_verify.trial.runner import open_runner
from vfio_verify.values.case import FIRST_FILE, PAGE, Call, Case, End, Fault, Kernel, KernelFault, check
from vfio_verify.values.model import expect

SUBJECTS = Path(__file__).parent.parent / "subjects"
CORPUS = Path(__file__).parent.parent / "corpus"
BOUNDS = Bounds(segments=8, faults=2, calls=2, watched=64)


class Drawn:
    """Choices from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def layouts(seed: int) -> Iterator[tuple[Case, Given]]:
    """Layouts that the model has, without end."""
    for number in range(seed << 32, seed + 1 << 32):
        if (given := given_of(any_case(Drawn(number)), BOUNDS)) is not None:
            yield case_of(given, BOUNDS), given


def inputs(seed: int, count: int) -> list[tuple[Case, Given]]:
    """Layouts, and the same with faults, errp NULL, on other kernels and called twice."""
    choices = random.Random(seed)
    made: list[tuple[Case, Given]] = []
    for case, given in layouts(seed):
        made.append((case, given))
        for _ in range(4):
            other = replace(
                case,
                fault_plan=tuple(fault(choices) for _ in range(choices.choice((1, 1, 1, 2)))),
                errp=choices.choice(("object", "object", "null")),
                kernel=Kernel(*(choices.random() < 0.9 for _ in range(3))) if choices.random() < 0.2 else case.kernel,
            )
            other = replace(other, kernel=replace(other.kernel, mremap_unmaps=False))
            if choices.random() < 0.1:
                other = replace(other, kernel_fault=KernelFault("read_only_descriptor"))
            elif choices.random() < 0.3:
                again = Call(case.iovec, case.total_size)
                other = replace(other, sequence=(End(0), again) if choices.random() < 0.5 else (again,))
            given_other = given_of(other, BOUNDS)
            assert given_other is not None
            made.append((other, given_other))
        if len(made) >= count:
            return made[:count]
    raise AssertionError


def fault(choices: random.Random) -> Fault:
    step = choices.choice(STEPS if choices.random() < 0.6 else ("mmap", "munmap"))
    errno = choices.choice(MMAP_ERRNOS if step == "mmap" else OTHER_ERRNOS.get(step, ("EINVAL",)))
    late = step == "mmap" and choices.random() < 0.4
    return Fault(
        step, choices.choice((1, 1, 2, 2, 3, 4, 5)), errno, "late" if late else "early", choices.random() < 0.3
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> native.Program:
    """The model with any subject."""
    with open_subject([str(SUBJECTS / "correct/check_first.c")]) as subject:
        return native.build(subject, tmp_path_factory.mktemp("model"), BOUNDS)


def test_a_case_and_its_input_stand_for_each_other() -> None:
    for (case, given), _ in zip(layouts(1), range(500), strict=False):
        check(case)
        assert list(given) == list(fields(BOUNDS))
        assert given_of(case, BOUNDS) == given


def memory_of(number: int, given: Given) -> int:
    """The file that a case calls so, by the model's number of it."""
    if number < DEVICES:
        return number
    owner = [given[f"region[{r}].device"] for r in range(REGIONS)]
    in_order = sorted(range(REGIONS), key=lambda r: (owner[r], r))
    own_files = [r for r in in_order if given[f"device[{owner[r]}].region_files"]]
    return FIRST_FILE + own_files.index(number - DEVICES)


def same_expectation(program: native.Program, cases: Sequence[tuple[Case, Given]]) -> None:
    for (case, given), by_model in zip(cases, native.expected(program, [given for _, given in cases]), strict=True):
        by_python = expect(case)
        assert by_model.refusals == {refusal.clause for refusal in by_python.refusals}, case
        if by_python.refusals:
            continue
        assert by_model.either == by_python.either, case
        assert by_model.length == -(-by_python.total_size // PAGE) * PAGE, case
        at = 0
        for segment, (number, offset) in zip(case.iovec, by_model.places, strict=True):
            overlay = next(one for one in by_python.overlays if one.start <= at < one.end)
            assert (memory_of(number, given), offset) == (overlay.memory, overlay.offset + at - overlay.start), case
            at += -(-segment.length // PAGE) * PAGE


def test_both_models_ask_the_same_of_every_layout(program: native.Program) -> None:
    same_expectation(program, [drawn for drawn, _ in zip(layouts(2), range(3000), strict=False)])


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(10))
def test_both_models_ask_the_same_of_100_000_layouts(program: native.Program, seed: int) -> None:
    same_expectation(program, [drawn for drawn, _ in zip(layouts(100 + seed), range(10_000), strict=False)])


def test_both_models_ask_the_same_of_the_corpus(program: native.Program) -> None:
    read = [read_entry(path.read_bytes(), path.name).case for path in sorted(CORPUS.glob("*.json"))]
    known = [given for case in read if (given := given_of(case, BOUNDS)) is not None]
    assert len(known) > 40
    same_expectation(program, [(case_of(given, BOUNDS), given) for given in known])


def told(violations: Sequence[Violation], case: Case) -> tuple[frozenset[str], frozenset[str]]:
    """The clauses that a real run violates, and those of them that do not follow from others.

    The model does not look at the order of overlays, but at what each shows: CONTENTS. That a second call is like the
    first is looked at where a case has two.
    """
    known = [one for one in violations if one.clause in provable() and (one.clause != "REPEATABLE" or case.sequence)]
    every = frozenset(clause for one in known for clause in one.clauses) & set(provable())
    return every, frozenset(one.clause for one in known if one.cause != "order")


def disagreements(name: Path | str, directory: Path, seed: int, count: int) -> tuple[list[str], int]:
    """What a judge of real runs and the model say differently of a subject; and how many runs violated a clause.

    Beyond what a subject holds, what is mapped over is chance.
    """
    with open_subject([str(name)]) as subject, open_runner(subject) as runner:
        program = native.build(subject, directory, BOUNDS)
        cases = inputs(seed, count)
        different, violating = [], 0
        for (case, _), answer in zip(cases, native.answers(program, [given for _, given in cases]), strict=True):
            assert not answer & native.NO_INPUT, case
            by_model = native.clauses_of(answer)
            if answer & native.LEFT:
                continue
            for renew in (False, True):  # what an earlier run has left in the process is not in the case
                if renew:
                    runner.worker.renew()
                _, verdict = runner.run_and_judge(case)
                every, roots = told(verdict.violations, case)
                same = bool(every) == bool(by_model) and (roots <= by_model or "CONFINED" in by_model & roots)
                if same:
                    break
            violating += bool(by_model)
            if not same:
                different.append(f"run: {sorted(every)}, model: {sorted(by_model)}: {case.to_json().decode()}")
    return different, violating


@pytest.mark.parametrize("name", ["check_first", "hint_then_anywhere", "own_descriptor", "pool_with_free_list"])
def test_real_runs_and_the_model_agree_on_correct_subjects(name: str, tmp_path: Path) -> None:
    assert disagreements(SUBJECTS / f"correct/{name}.c", tmp_path, 3, 300) == ([], 0)


@pytest.mark.usefixtures("untraced")
def test_real_runs_and_the_model_agree_on_the_core(tmp_path: Path) -> None:
    assert disagreements("core", tmp_path, 3, 300) == ([], 0)


@pytest.mark.parametrize(
    "name",
    ["kept_after_late_failure", "writable_regions_writable", "reference_kept_on_error", "closed_descriptor_remembered"],
)
def test_real_runs_and_the_model_agree_on_broken_subjects(name: str, tmp_path: Path) -> None:
    different, violating = disagreements(SUBJECTS / f"broken/{name}.c", tmp_path, 4, 300)
    assert not different
    assert violating


NOT_MODELLED = {
    "all_descriptors_closed": "closefrom",
    "assembly": "assembly",
    "assembly_answer_dropped": "assembly",
    "descriptors_of_all_kinds": "close_range",
    "device_descriptor_replaced": "dup2",
    "eventfd_of_every_other_call_kept": "eventfd",
    "mremap_tried_first": "mremap",
    "pipe_end_kept_on_error": "pipe2",
    "pipe_probed": "pipe2",
    "placeholder_looked_for_after_mremap": "mremap",
    "reserved_anew_by_assembly": "assembly",
}
"""Subjects that call what the model does not have."""
ALL = sorted(path for kind in ("correct", "broken") for path in (SUBJECTS / kind).glob("*.c"))


@pytest.mark.prove
@pytest.mark.parametrize("path", [path for path in ALL if path.stem not in NOT_MODELLED], ids=lambda path: path.stem)
def test_real_runs_and_the_model_agree_on_every_subject(path: Path, tmp_path: Path) -> None:
    different, _ = disagreements(path, tmp_path, 5, 200)
    assert not different


@pytest.mark.parametrize("name", ["assembly", "pipe_probed"])
def test_what_the_model_does_not_have_is_refused(name: str, tmp_path: Path) -> None:
    path = next(path for path in ALL if path.stem == name)
    with (
        open_subject([str(path)]) as subject,
        pytest.raises(native.InputError, match=f"does not have.*{NOT_MODELLED[name]}"),
    ):
        native.build(subject, tmp_path, BOUNDS)
