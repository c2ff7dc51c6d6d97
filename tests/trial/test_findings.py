"""From runs to findings: one fault is told once, two faults twice, the gravest first."""

from __future__ import annotations

import msgspec
import pytest
from made_reports import violation
from made_runs import GOOD, VALID, failed, failure, munmap, overlay, page, reserve, runs, success
from made_runs import told as judged

from vfio_verify.judge import Consequence, Violation
from vfio_verify.judge.attribution import key
from vfio_verify.judge.consequences import roots
from vfio_verify.judge.sameness import absorbed, counted
from vfio_verify.judge.severity import severity
from vfio_verify.trial.findings import MOST_CONFIRMED, Seen, to_confirm, told
from vfio_verify.values.case import PAGE, Area, Device, Fault, Kernel, KernelFault, RamBlock, Region, Segment
from vfio_verify.values.cause import named
from vfio_verify.values.observation import ANONYMOUS, OUTSIDE, READ, REFUSED, SHARED, Observation, Run
from vfio_verify.values.spec import SEVERITIES, clauses

SPARSE = msgspec.structs.replace(
    VALID,
    devices=(Device((Region(2, 64 * PAGE, (Area(8 * PAGE, 16 * PAGE), Area(40 * PAGE, 16 * PAGE))), Region(3, PAGE))),),
    ram_blocks=(RamBlock(0, 2, 0), RamBlock(0, 2, 1)),
    iovec=tuple(Segment(1, 2 * i * PAGE, PAGE) for i in range(4)),
    total_size=4 * PAGE,
)
PLACE = (2 << 40) + 40 * PAGE


def mapped(*offsets: int, memory: int = 0) -> Observation:
    """SPARSE, with these offsets in the device's file behind its four pages."""
    return success(runs=tuple(page(i, memory=memory, offset=o) for i, o in enumerate(offsets)), pages_after=1004)


def places(change: int = 0) -> list[int]:
    return [PLACE + 2 * i * PAGE + change for i in range(4)]


def contents(what: Observation) -> list[str]:
    return [v.cause for v in judged(what, SPARSE).violations]


# ---- causes of CONTENTS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "cause"),
    [
        (places(-40 * PAGE), "area offset"),
        (places(-(2 << 40)), "32 bits or region offset"),
        (places(-PLACE), "region offset"),
        (places(-32 * PAGE), "other area"),
        (places(1 << 40), "other region"),
        ([PLACE, PLACE, PLACE, PLACE], "other segment"),
        ([PLACE, PLACE + 2 * PAGE, PLACE + 2 * PAGE, PLACE + 2 * PAGE], "other segment"),
        ([PLACE, PLACE + PAGE, PLACE + 2 * PAGE, PLACE + 3 * PAGE], "adjacent"),
        (places(7 * PAGE + 8 * PAGE), "elsewhere"),
    ],
)
def test_the_cause_of_wrong_contents_is_what_the_offset_lacks(offsets: list[int], cause: str) -> None:
    assert contents(mapped(*offsets)) == [cause]


def test_the_cause_does_not_depend_on_how_many_pages_are_wrong() -> None:
    one = [*places()[:3], places(-40 * PAGE)[3]]
    assert contents(mapped(*one)) == contents(mapped(*places(-40 * PAGE)))


def test_two_faults_in_one_mapping_are_two_findings() -> None:
    lost = places(-40 * PAGE)
    assert contents(mapped(*lost[:3], lost[2])) == ["area offset", "other segment"]


def test_another_devices_memory_and_anonymous_memory_are_told_apart() -> None:
    assert contents(mapped(*places(), memory=1)) == ["other device"]
    copy = tuple(page(i, READ, ANONYMOUS) for i in range(4))
    (violation,) = judged(success(runs=copy, pages_after=1004), SPARSE).violations
    assert (violation.cause, set(violation.clauses)) == ("copy", {"CONTENTS", "CONTIGUOUS", "READ_ONLY"})


# ---- the root of a run -----------------------------------------------------------------------------------------


def test_what_follows_from_a_violation_is_told_with_it() -> None:
    ignored = success([reserve(), failed(overlay(0, 1, 0)), GOOD[2]], runs=runs((0, page(0, SHARED, 100))))
    (violation,) = judged(ignored).violations
    assert violation.clauses == ("FAULT_REPORTED", "CONTIGUOUS")
    with_error = msgspec.structs.replace(ignored, error_left=True, message=b"no")
    assert set(judged(with_error).violations[0].clauses) == {"FAULT_REPORTED", "CONTIGUOUS", "ERROR_SET"}


def test_what_does_not_follow_is_a_violation_of_its_own() -> None:
    both = success([reserve(), failed(overlay(0, 1, 0)), GOOD[2]], runs=runs((0, None)), heap_live=1)
    assert [v.clause for v in judged(both).violations] == ["FAULT_REPORTED", "NO_LEAK"]


def test_a_call_astray_explains_what_it_did_not_do() -> None:
    stray = (Run(0, 3 * PAGE, SHARED, 100, 0),)
    past = munmap(1, 3, flags=OUTSIDE | REFUSED)
    what = failure([reserve(), failed(overlay(0, 1, 0)), past], strays=stray, pages_after=1003)
    (violation,) = judged(what).violations
    assert (violation.clauses, violation.cause) == (("CONFINED", "UNMAP_ON_ERROR"), "munmap: past its end")


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([reserve(), munmap(), munmap(flags=OUTSIDE | REFUSED)], "munmap: unmapped before"),
        ([reserve(), munmap(3, 1, flags=OUTSIDE | REFUSED)], "munmap: past its end"),
        ([reserve(), munmap(-1, 2, flags=OUTSIDE | REFUSED)], "munmap: before it"),
        ([reserve(), munmap(-90, 1, flags=OUTSIDE | REFUSED)], "munmap: elsewhere"),
        ([munmap(flags=OUTSIDE | REFUSED)], "munmap: there is none"),
    ],
)
def test_how_a_call_lies_to_the_reservation_is_its_cause(events: list, cause: str) -> None:
    assert [v.cause for v in judged(failure(events)).violations if v.clause == "CONFINED"] == [cause]


def test_the_root_of_a_consequence_is_not_one_itself() -> None:
    found = [
        ("CONTIGUOUS", "hole: segments"),
        ("FAULT_REPORTED", "overlay"),
        ("REPEATABLE", "unlike"),
        ("NO_LEAK", "heap"),
    ]
    assert roots(found) == [1, None, 1, None]


# ---- several runs ----------------------------------------------------------------------------------------------


def test_an_ambiguous_cause_is_decided_by_a_sure_one() -> None:
    keys = [("CONTENTS", "area offset or other segment"), ("CONTENTS", "area offset"), ("CONTENTS", "32 bits")]
    assert absorbed(keys) == {keys[0]: keys[1]}


def test_of_ambiguous_causes_alone_as_few_as_can_be_are_told() -> None:
    keys = [("ERROR_SET", f"none: {names}") for names in ("A or B", "A or C", "A or B or C", "D or E")]
    assert sorted(set(keys) - set(absorbed(keys))) == [("ERROR_SET", "none: A or B"), ("ERROR_SET", "none: D or E")]


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (("ACCEPTS_VALID", "refused: area offset"), ("CONTENTS", "area offset")),
        (("NO_LEAK", "heap: no # bytes"), ("NO_LEAK", "heap: success")),
        (("NO_LEAK", "heap: ?"), ("NO_LEAK", "heap: no # bytes")),
        (("REPEATABLE", "SURVIVES: signal 11 @10"), ("SURVIVES", "signal 11 @10")),
        (("REPEATABLE", "at once: disturbed"), ("REPEATABLE", "gone")),
        (("REPEATABLE", "pages"), ("REPEATABLE", "gone")),
        (("SURVIVES", "signal 11 after munmap"), ("SURVIVES", "signal 11 a.c:7")),
        (("SURVIVES", "signal 11 after munmap"), ("SURVIVES", "signal 11 after mmap")),
        (("FAULT_REPORTED", "find_block"), ("SAME_BLOCK", "no block")),
        (("FAULT_REPORTED", "find_region"), ("SAME_BLOCK", "plain RAM")),
        (("FAULT_REPORTED", "find_device"), ("SAME_BLOCK", "plain RAM")),
        (("CONTENTS", "area offset or other segment"), ("CONTIGUOUS", "order")),
        (("ACCEPTS_VALID", "refused: area offset"), ("CONTENTS", "copy")),
        (("ACCEPTS_VALID", "refused: b"), ("ACCEPTS_VALID", "refused: a")),
        (("ACCEPTS_VALID", "refused: area offset or b"), ("CONTENTS", "b")),
        (("ACCEPTS_VALID", "?"), ("ACCEPTS_VALID", "no # bytes")),
        (("NO_WINDOW", "at once: window"), ("REPEATABLE", "at once: disturbed")),
        (("REPEATABLE", "at once: disturbed"), ("REPEATABLE", "NO_LEAK: cache")),
        (("REPEATABLE", "NO_LEAK: heap: no"), ("NO_LEAK", "heap: success")),
        (("REPEATABLE", "NO_LEAK: twice"), ("REPEATABLE", "unlike")),
        (("REPEATABLE", "CONFINED: munmap: elsewhere"), ("UNMAP_ON_ERROR", "count")),
        (("REPEATABLE", "UNMAP_ON_ERROR: count"), ("CONFINED", "munmap: elsewhere")),
        (("REPEATABLE", "second fails"), ("REPEATABLE", "ACCEPTS_VALID: no")),
        (("REPEATABLE", "CONTENTS: other segment"), ("REPEATABLE", "CONTENTS: copy")),
        (("REPEATABLE", "ACCEPTS_VALID: refused: a"), ("REPEATABLE", "CONTENTS: copy")),
        (("REPEATABLE", "CONFINED: munmap: elsewhere"), ("REPEATABLE", "contents")),
        (("REPEATABLE", "fork"), ("REPEATABLE", "CONFINED: munmap: elsewhere")),
    ],
)
def test_what_tells_less_of_the_same_fault_is_left_out(less: tuple[str, str], more: tuple[str, str]) -> None:
    assert absorbed([less, more]) == {less: more}
    assert absorbed([less]) == {}


@pytest.mark.parametrize(
    "keys",
    [
        [("ACCEPTS_VALID", "no"), ("ACCEPTS_VALID", "refused: a")],
        [("ACCEPTS_VALID", "no"), ("CONTENTS", "copy")],
        [("NO_LEAK", "heap: no"), ("NO_LEAK", "descriptor: success")],
        [("NO_LEAK", "heap: ?"), ("NO_LEAK", "descriptor: no")],
        [("REPEATABLE", "NO_LEAK: cache"), ("NO_LEAK", "gone"), ("CONFINED", "munmap: elsewhere")],
        [("REPEATABLE", "descriptor"), ("REPEATABLE", "gone")],
        [("REPEATABLE", "second fails"), ("REPEATABLE", "NO_LEAK: cache")],
        [("SURVIVES", "signal 11 a.c:7"), ("SURVIVES", "signal 7 a.c:9")],
        [("CONFINED", "at once: "), ("NO_WINDOW", "at once: window")],
        [("FAULT_REPORTED", "mmap"), ("SAME_BLOCK", "plain RAM"), ("SAME_BLOCK", "no block")],
        [("ACCEPTS_VALID", "bad offset or length"), ("ACCEPTS_VALID", "bad offset or size")],
    ],
)
def test_two_faults_are_told_beside_each_other(keys: list[tuple[str, str]]) -> None:
    assert absorbed(keys) == {}


def test_runs_of_what_is_untold_count_with_what_it_is_told_by() -> None:
    keys = [("NO_LEAK", "heap: ?"), ("NO_LEAK", "heap: no"), ("NO_LEAK", "heap: success")]
    assert absorbed(keys) == {keys[0]: keys[2], keys[1]: keys[2]}


def test_a_violation_is_as_grave_as_the_gravest_of_its_consequences() -> None:
    lighter = violation("ERROR_SET", cause="none: valid")
    assert severity(lighter) == "low"
    followed = (Consequence("FAULT_REPORTED", "overlay", "success, although a step failed"),)
    assert severity(msgspec.structs.replace(lighter, consequences=followed)) == "medium"


def test_a_refusal_is_told_by_the_contents_that_it_shows() -> None:
    keys = [("ACCEPTS_VALID", "refused: b"), ("CONTENTS", "a"), ("CONTENTS", "b")]
    assert absorbed(keys) == {keys[0]: keys[2]}


def test_the_runs_of_all_that_tell_the_same_are_added_up() -> None:
    one, other = ("NO_LEAK", "heap: no"), ("NO_LEAK", "heap: success")
    assert counted({one: 2, other: 3}, {one: other}) == {other: 5}


def test_runs_are_counted_and_consequences_gathered() -> None:
    seen = Seen()
    root = violation("FAULT_REPORTED", cause="overlay")
    (alone,) = judged(success([reserve(), failed(overlay(0, 1, 0)), GOOD[2]], runs=runs((0, None)))).violations
    for one in (root, root, alone):
        seen.add(one)
    (found,) = told([root], seen.with_others(seen))
    assert (found.runs, found.clauses) == (6, ("FAULT_REPORTED", "CONTIGUOUS"))


def test_what_is_a_finding_of_its_own_is_nobodys_consequence() -> None:
    (alone,) = judged(success([reserve(), failed(overlay(0, 1, 0)), GOOD[2]], runs=runs((0, None)))).violations
    seen = Seen()
    seen.add(alone)
    (followed,) = (one for one in alone.consequences if one.clause == "CONTIGUOUS")
    own = violation("CONTIGUOUS", cause=followed.cause)
    assert [v.clauses for v in told([alone, own], seen)] == [("CONTIGUOUS",), ("FAULT_REPORTED",)]


def test_one_line_that_is_there_twice_is_one_place() -> None:
    lines = {0x10: "a.c:3", 0x20: "a.c:3", 0x30: "a.c:9"}
    crashes = [violation("SURVIVES", cause=f"signal 11 @{at:x}") for at in (0x10, 0x20, 0x30, 0x40)]
    causes = {v.cause for v in told(crashes, Seen(), lines.get)}
    assert causes == {"signal 11 a.c:3", "signal 11 a.c:9", "signal 11 @40"}
    assert named("no place", lines.get) == "no place"


def test_a_cleanup_missed_on_many_ways_out_is_one_fault() -> None:
    ways = [violation("UNMAP_ON_ERROR", cause=f"kept: way {c}") for c in "abc"]
    assert len(told(ways[:2], Seen())) == 2
    assert len(told(ways, Seen())) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("REPEATABLE", "descriptor"), ("REPEATABLE", "NO_LEAK: descriptor: success")),
        (("REPEATABLE", "replaced"), ("REPEATABLE", "CONTIGUOUS: fewer")),
        (("REPEATABLE", "NO_WINDOW: returned"), ("REPEATABLE", "CONFINED: munmap: before it")),
        (("NO_WINDOW", "again"), ("CONFINED", "mmap: unmapped before")),
        (("CONTIGUOUS", "order"), ("CONTENTS", "other segment")),
        (("REPEATABLE", "gone"), ("REPEATABLE", "NO_WINDOW: returned")),
    ],
)
def test_what_two_findings_are_about_makes_them_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    both = [violation(clause, cause=cause) for clause, cause in (one, other)]
    both[1] = msgspec.structs.replace(both[1], case=SPARSE)
    assert len(told(both, Seen())) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("REPEATABLE", "descriptor"), ("REPEATABLE", "replaced")),
        (("NO_WINDOW", "again"), ("CONFINED", "mmap: past its end")),
        (("CONTIGUOUS", "order"), ("CONTENTS", "area offset")),
        (("CONTENTS", "area offset"), ("CONTENTS", "other segment")),
    ],
)
def test_what_is_about_two_things_stays_two_findings(one: tuple[str, str], other: tuple[str, str]) -> None:
    both = [violation(clause, cause=cause) for clause, cause in (one, other)]
    both[1] = msgspec.structs.replace(both[1], case=SPARSE)
    assert len(told(both, Seen())) == 2


def test_one_line_answers_for_one_way_of_failing() -> None:
    """That a cleanup leaves pages, and that it leaves more where it fails itself, is told of its line once."""
    lines = {0x10: "a.c:3", 0x20: "a.c:9"}
    causes = ["in part", "a failed munmap", "whole"]
    ways = [violation("UNMAP_ON_ERROR", cause=c, where=at) for c, at in zip(causes, (0x10, 0x10, 0x20), strict=True)]
    assert len(told(ways, Seen(), lines.get)) == 2
    assert len(told(ways, Seen())) == 3


def apart(violations: list[Violation]) -> list[Violation]:
    """Each with a case of its own: what one case shows is one fault anyway."""
    sizes = enumerate(violations, 1)
    return [msgspec.structs.replace(v, case=msgspec.structs.replace(v.case, total_size=n)) for n, v in sizes]


def test_calls_astray_from_one_line_are_one_fault_and_a_cleanup_astray_is_another() -> None:
    causes = ["mmap: elsewhere", "mmap: before it", "munmap: past its end"]
    astray = apart([violation("CONFINED", cause=cause, where=0x10) for cause in causes])
    assert len(told(astray, Seen(), {0x10: "a.c:3"}.get)) == 2


def test_memory_that_is_wrong_in_many_ways_is_wrong_in_one() -> None:
    causes = ("elsewhere", "area offset", "region offset", "other area", "adjacent")
    ways = apart([violation(cause=cause) for cause in causes])
    assert len(told(ways[:4], Seen())) == 4
    assert len(told(ways, Seen())) == 1


def test_who_reads_the_devices_memory_to_copy_it_crashes_where_it_is_cut_off() -> None:
    cut = msgspec.structs.replace(VALID, kernel_fault=KernelFault("truncated", 1))
    crash = msgspec.structs.replace(violation("SURVIVES", cause="signal 7"), case=cut)
    assert len(told([violation(cause="copy"), crash], Seen())) == 1
    assert len(told([violation(cause="area offset"), crash], Seen())) == 2


def test_what_only_another_host_shows_is_told_with_what_it_comes_from() -> None:
    refused = violation("ACCEPTS_VALID", cause="no")
    without_hints = msgspec.structs.replace(refused, case=msgspec.structs.replace(VALID, kernel=Kernel(hints=False)))
    assert len(told([violation("NO_WINDOW", cause="again"), without_hints], Seen())) == 1
    assert len(told([violation("NO_WINDOW", cause="again"), refused], Seen())) == 2
    case = msgspec.structs.replace(VALID, kernel_fault=KernelFault("read_only_descriptor"))
    read_only = msgspec.structs.replace(refused, case=case)
    assert len(told([violation("READ_ONLY", cause="writable"), read_only], Seen())) == 1
    assert len(told([violation("READ_ONLY", cause="writable"), refused], Seen())) == 2
    pages = [
        msgspec.structs.replace(v, case=msgspec.structs.replace(v.case, page_size=65536))
        for v in apart([refused, violation("CONFINED", cause="munmap: elsewhere")])
    ]
    assert len(told(pages, Seen())) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("SURVIVES", "excess", VALID), ("SURVIVES", "signal 7", "truncated")),
        (("ACCEPTS_VALID", "no", "read_only_descriptor"), ("ACCEPTS_VALID", "never", "read_only_descriptor")),
        (("ACCEPTS_VALID", "no", Kernel(hints=False)), ("CONFINED", "munmap: unmapped before", VALID)),
        (("NO_WINDOW", "again", VALID), ("CONFINED", "munmap: before it", VALID)),
    ],
)
def test_what_could_follow_from_a_fault_stays_where_that_is_not_there(one: tuple, other: tuple) -> None:
    """Two crashes, or a refusal and an unmapping astray, have no root in common unless one is told."""

    def made(clause: str, cause: str, world: object) -> Violation:
        case = VALID
        if isinstance(world, str):
            case = msgspec.structs.replace(VALID, kernel_fault=KernelFault(world))  # type: ignore[arg-type]
        elif isinstance(world, Kernel):
            case = msgspec.structs.replace(VALID, kernel=world)
        return msgspec.structs.replace(violation(clause, cause=cause), case=case)

    assert len(told([made(*one), made(*other)], Seen())) == 2


def test_who_uses_a_reservation_that_failed_is_told_so_once() -> None:
    first, second = (VALID.with_faults(Fault("mmap", n, "ENOMEM")) for n in (1, 2))
    ignored = msgspec.structs.replace(violation("FAULT_REPORTED", cause="reservation"), case=first)
    astray = violation("CONFINED", cause="mmap: past its end")
    assert len(told([ignored, msgspec.structs.replace(astray, case=first)], Seen())) == 1
    assert len(told([ignored, msgspec.structs.replace(astray, case=second)], Seen())) == 2
    assert len(told([ignored, astray], Seen())) == 2


def test_a_look_up_that_fails_and_is_ignored_is_one_fault_whatever_lies_there() -> None:
    faulty = SPARSE.with_faults(Fault("find_block", 2))
    found = [violation(clause, cause="a way") for clause in ("SAME_BLOCK", "WITHIN_BLOCK", "ALIGNED")]
    assert len(told(found, Seen())) == 3
    ignored = [msgspec.structs.replace(one, case=faulty) for one in found]
    assert len(told([violation("SAME_BLOCK", cause="no block"), *ignored], Seen())) == 1


def test_the_gravest_come_first() -> None:
    found = [violation(clause, cause=clause) for clause in clauses()]
    grades = [SEVERITIES.index(severity(v)) for v in told(found, Seen())]
    assert grades == sorted(grades)
    newline, crash, refused = (
        violation(clause, cause=cause)
        for clause, cause in (("ERROR_SET", "newline"), ("SURVIVES", "signal 11"), ("ACCEPTS_VALID", "no"))
    )
    assert [v.clause for v in told([newline, refused, crash], Seen())] == ["SURVIVES", "ACCEPTS_VALID", "ERROR_SET"]


def test_a_crash_is_lighter_where_a_step_has_to_fail() -> None:
    crash = violation("SURVIVES", cause="signal 11")
    faulty = msgspec.structs.replace(crash, case=crash.case.with_faults(Fault("mmap", 1, "ENOMEM")))
    assert (severity(crash), severity(faulty)) == ("critical", "high")


def test_a_violation_is_as_grave_as_what_follows_from_it() -> None:
    stray = (Run(0, 3 * PAGE, SHARED, 100, 0),)
    past = munmap(1, 3, flags=OUTSIDE | REFUSED)
    found = judged(failure([reserve(), past], strays=stray, pages_after=1003)).violations
    assert [(v.clause, severity(v)) for v in found] == [("ACCEPTS_VALID", "low"), ("CONFINED", "critical")]


def test_no_number_of_causes_hides_one() -> None:
    many = {("CONTENTS", f"c{i}"): violation(cause=f"c{i}") for i in range(MOST_CONFIRMED + 7)}
    many["SURVIVES", "hang"] = violation("SURVIVES", cause="hang")
    first, rest = to_confirm(many)
    assert (len(first), len(rest)) == (MOST_CONFIRMED, 8)
    assert ("SURVIVES", "hang") in first[:2]
    assert set(first) | set(rest) == set(many)
    assert key(many["SURVIVES", "hang"]) == ("SURVIVES", "hang")


def test_a_lost_offset_that_hits_another_segments_place_is_not_the_order() -> None:
    """Segments as far from each other as the area's offset: one shows the other, which does not show itself."""
    steps = tuple(Segment(0, 8 * i * PAGE, PAGE) for i in (1, 0))
    case = msgspec.structs.replace(SPARSE, iovec=steps, total_size=2 * PAGE)
    base = (2 << 40) + 8 * PAGE
    shown = (page(0, offset=base), page(1, offset=base - 8 * PAGE))
    found = judged(success(runs=shown, pages_after=1002), case).violations
    assert [(v.clause, v.cause) for v in found] == [("CONTENTS", "area offset")]
