"""Under which clause a violation is told that needs other calls."""

from __future__ import annotations

from made_reports import violation
from made_runs import VALID
from msgspec.structs import replace

from vfio_verify.judge.attribution import after_earlier, in_step, only_after_earlier

LATER = replace(VALID, earlier=(VALID,))
LEAK = replace(violation("NO_LEAK", cause="heap: success"), case=LATER, summary="1 heap block not freed")
CRASH = replace(violation("SURVIVES", cause="signal 11 after mmap"), case=LATER, summary="SIGSEGV")
AGAIN = replace(violation("REPEATABLE", cause="unlike"), case=LATER, summary="unlike the first")


def test_what_a_call_violates_only_after_others_is_repeatable() -> None:
    told = after_earlier(LEAK)
    assert (told.clause, told.cause) == ("REPEATABLE", "NO_LEAK: heap: success")
    assert told.summary == "after 1 earlier call: 1 heap block not freed (NO_LEAK)"
    many = after_earlier(replace(LEAK, case=replace(LATER, earlier=(VALID,) * 1200)))
    assert many.summary.startswith("after 1,200 earlier calls: ")


def test_what_ends_the_process_stays_with_survives_and_repeatable_is_itself() -> None:
    assert after_earlier(CRASH) == replace(CRASH, summary="after 1 earlier call: SIGSEGV")
    assert after_earlier(AGAIN) == replace(AGAIN, summary="after 1 earlier call: unlike the first (REPEATABLE)")


def test_without_earlier_calls_nothing_changes() -> None:
    assert after_earlier(replace(LEAK, case=VALID)) == replace(LEAK, case=VALID)


def test_what_the_call_shows_alone_too_is_no_matter_of_the_earlier_ones() -> None:
    assert only_after_earlier([LEAK, CRASH], [replace(LEAK, case=VALID)]) == (LEAK, after_earlier(CRASH))


def test_a_violation_of_a_step_names_the_step() -> None:
    told = in_step(LEAK, "step 2 (call 1)")
    assert (told.clause, told.cause) == ("REPEATABLE", "NO_LEAK: heap: success")
    assert told.summary == "in step 2 (call 1), and not in the same call alone: 1 heap block not freed (NO_LEAK)"
    assert in_step(AGAIN, "step 2 (call 1)") == AGAIN
