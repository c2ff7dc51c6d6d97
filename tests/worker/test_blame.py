"""Who is to blame for the end of a worker: the rule by itself. Subjects that need it are in test_hostile.py."""

from __future__ import annotations

import errno

import pytest

from vfio_verify.errors import HarnessError, UnrealError
from vfio_verify.values.observation import Death, Observation
from vfio_verify.worker.answers import End, Kind, Reply
from vfio_verify.worker.blame import Doubt, any_may_have_done_it
from vfio_verify.worker.native import Progress

NOTHING = Progress(*[0] * len(Progress._fields))
DAMAGE = [kind for kind in Kind if kind.damage]
SEEN = Observation(mapped=True)


def end(kind: Kind, *, in_subject: bool = False, error: int = 0) -> End:
    return End(kind, NOTHING._replace(in_subject=in_subject), memoryview(b""), Death("damage"), error)


def reply(*, changed: bool = False, changes: int = 0) -> Reply:
    return Reply(NOTHING._replace(changes=changes), memoryview(b""), changed)


def again(ended: End, times: int, *, is_first: bool = False, is_core: bool = False) -> list[bool]:
    doubt = Doubt("case", is_core=is_core)
    return [doubt.is_to_be_made_again(ended, is_first=is_first) for _ in range(times)]


@pytest.mark.parametrize("kind", [Kind.BY_ITSELF, Kind.HANG, Kind.STOPPED, Kind.TOO_MUCH])
def test_what_ends_in_the_subjects_code_is_believed_at_once(kind):
    assert again(end(kind, in_subject=True), 2) == [False, False]


@pytest.mark.parametrize("kind", [Kind.BY_ITSELF, Kind.HANG, *DAMAGE])
def test_what_an_earlier_run_may_have_done_is_believed_the_second_time(kind):
    assert again(end(kind), 2) == [True, False]


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_not_believed_by_what_the_worker_says_of_itself(kind):
    assert again(end(kind, in_subject=True), 2) == [True, False]


def test_the_first_run_of_a_process_is_made_again_only_for_what_others_may_do():
    assert again(end(Kind.FORGED), 1, is_first=True) == [False]
    assert again(end(Kind.PARENT_ENDED), 2, is_first=True) == [True, False]


def test_each_run_has_its_own_second_try():
    doubt = Doubt("case", is_core=False)
    tries = [doubt.is_to_be_made_again(end(Kind.FORGED), number=n, is_first=False) for n in (0, 0, 1, 1)]
    assert tries == [True, False, True, False]


def test_memory_that_was_only_suspected_is_nobodys():
    assert again(end(Kind.SUSPECTED), 5, is_first=True) == [True] * 5


@pytest.mark.parametrize(("error", "kind"), [(errno.ENOSPC, UnrealError), (errno.EBADMSG, HarnessError)])
def test_a_request_that_is_refused_twice_is_no_fault_of_the_subjects(error, kind):
    refused = end(Kind.REFUSED, error=error)
    assert again(refused, 1, is_first=True) == [True]
    with pytest.raises(HarnessError, match="cannot make the case real") as raised:
        again(refused, 2)
    assert raised.type is kind


def test_the_core_does_no_damage():
    with pytest.raises(HarnessError, match="the world itself fails"):
        again(end(Kind.BY_ITSELF), 2, is_core=True, is_first=True)


def test_of_several_runs_any_may_have_changed_the_process():
    left = Observation(mapped=True, left=1)
    assert any_may_have_done_it(reply(changed=True), 3, [SEEN, SEEN])
    assert any_may_have_done_it(reply(changes=1), 2, [SEEN, left])
    assert any_may_have_done_it(end(Kind.FORGED), 2, [])
    assert not any_may_have_done_it(reply(changed=True), 3, [SEEN, left])  # a thread: its request ends there
    assert not any_may_have_done_it(reply(changed=True), 3, [SEEN])
    assert not any_may_have_done_it(end(Kind.FORGED), 1, [])
    assert not any_may_have_done_it(end(Kind.HANG), 3, [SEEN, SEEN])
