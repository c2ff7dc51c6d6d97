"""What runs the tasks of a campaign: here, or beside each other in threads."""

from __future__ import annotations

import threading
import time

import pytest

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import Pool
from vfio_verify.subject.subject import CORE


def test_with_one_job_tasks_are_run_here_one_after_the_other_when_they_are_asked_for() -> None:
    begun: list[int] = []

    def task(number: int, *, more: int) -> tuple[int, threading.Thread]:
        begun.append(number)
        return number + more, threading.current_thread()

    with Pool(1) as pool:
        assert (pool.is_here, pool.has_threads) == (True, False)
        results = pool.map_beside(task, [(1,), (2,)], more=10)
        assert begun == []
        assert next(results) == (11, threading.current_thread())
        assert begun == [1]


def test_with_more_jobs_and_one_task_others_are_run_beside_each_other() -> None:
    both = threading.Barrier(2)

    def task(number: int, *, more: int) -> tuple[int, threading.Thread]:
        both.wait(30)
        time.sleep(0.1 if number == 1 else 0)
        return number + more, threading.current_thread()

    with Pool(2, tasks=1) as pool:
        assert (pool.is_here, pool.has_threads) == (True, True)
        (one, first), (other, second) = pool.map_beside(task, [(1,), (2,)], more=10)
    assert (one, other) == (11, 12)
    assert len({first, second, threading.current_thread()}) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_a_task_raises_beside_another_is_raised_here(error: type[BaseException]) -> None:
    both, other_has_ended = threading.Barrier(2), threading.Event()

    def task(number: int) -> None:
        both.wait(30)
        if number == 1:
            raise error
        time.sleep(0.2)
        other_has_ended.set()

    with pytest.raises(error), Pool(2, tasks=1) as pool:
        list(pool.map_beside(task, [(1,), (2,)]))
    assert other_has_ended.is_set()


def test_a_check_of_few_layouts_says_the_same_with_more_jobs() -> None:
    one, two = (check(CORE, Options(examples=5, jobs=jobs)) for jobs in (1, 2))
    assert one.tally.kernel_runs == two.tally.kernel_runs
    assert sum(one.tally.kernel_runs.values()) > 20
    assert (one.confirmed, one.tally.checked, one.tally.runs) == (two.confirmed, two.tally.checked, two.tally.runs)
