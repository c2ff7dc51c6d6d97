"""A search without end: the shards of a campaign one after the other on any executor, until a budget is spent.

The way of a shard, from being handed out to its finding on the disk:

    ShardNumbers.claim    scheduler   no other search does it from now on
    run_part              tasks       a worker runs it, when `Scheduler.fill` has room for it
    Recorder.add_shard    recorder    it is held, and each of its new candidates becomes a task
    check.confirm         campaign    a worker confirms and minimizes each of them
    Recorder.decide       recorder    the finding is stored in the corpus, and then in the state
    State.add_shard       state       when all are decided, the shard counts as done

So a search may be killed at any moment and loses no more than the shards that are under way.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from vfio_verify.campaign.check import confirm
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import Interrupts
from vfio_verify.campaign.shards import whole_shard
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.shared import Corpus, RedisCorpus
from vfio_verify.errors import HarnessError
from vfio_verify.generate.kernel_faults import permitted, reasons_against, why_not
from vfio_verify.search.budget import Budget, Ending
from vfio_verify.search.outcome import Outcome, make_outcome
from vfio_verify.search.place import FilePlace, Place
from vfio_verify.search.recorder import Recorder
from vfio_verify.search.scheduler import Scheduler, ShardNumbers
from vfio_verify.search.shared import SharedPlace
from vfio_verify.search.state import Part
from vfio_verify.search.tasks import ShardTask, Task, Workers, run_part
from vfio_verify.search.watcher import Watcher
from vfio_verify.subject.subject import Subject


def fuzz(
    subject: Subject,
    options: Options,
    budget: Budget,
    watcher: Watcher,
    *,
    corpus: Path | Corpus | None = None,
    part: Part = Part(),  # noqa: B008  # it is a value
    fresh: bool = False,
    executor: Executor | None = None,
) -> Outcome:
    """Search until the budget is spent, or Ctrl-C. The executor, if one is given, runs `options.jobs` tasks at once
    unless it says otherwise, as `Workers` has it; without one, processes are started. Raises InputError if the corpus
    cannot be used or is in use for the same search.
    """
    kept = DirectoryCorpus(corpus) if isinstance(corpus, Path) else corpus
    place = _place(kept, subject, options, part)
    with place.taken(), Interrupts() as interrupts:
        interrupts.deferred = True
        state = place.reset() if fresh else place.load()
        others = [] if fresh else place.others()
        ending = Ending(budget)
        recorder = Recorder(subject, options, kept, place, state, ending=ending, watcher=watcher)
        numbers = ShardNumbers(part, place, lambda number: any(one.has(number) for one in (recorder.state, *others)))
        workers = Workers(executor, options.jobs)
        try:
            return _Search(subject, options, recorder, numbers, workers).run(interrupts)
        finally:
            workers.end()


def _place(corpus: Corpus | None, subject: Subject, options: Options, part: Part) -> Place:
    if isinstance(corpus, RedisCorpus):
        return SharedPlace(corpus, subject, options, part)
    return FilePlace(corpus.path, subject, options, part) if isinstance(corpus, DirectoryCorpus) else Place(part)


class _Search:
    """Moves results from the scheduler to the recorder, and what follows from them back, until the ending."""

    def __init__(
        self, subject: Subject, options: Options, recorder: Recorder, numbers: ShardNumbers, workers: Workers
    ) -> None:
        self._subject, self._options, self._workers = subject, options, workers
        self._recorder, self._ending, self._numbers = recorder, recorder.ending, numbers
        self._scheduler = Scheduler(workers, self._submit)
        self._reasons = reasons_against(why_not)
        self._kinds = permitted(self._reasons)
        self._asked = 0

    def run(self, interrupts: Interrupts) -> Outcome:
        """Go on until there is nothing more to do, or no more time to do it."""
        ending, recorder, scheduler = self._ending, self._recorder, self._scheduler
        while True:
            scheduler.fill(self._next_shard)
            if not scheduler.is_busy:
                break
            for task, result in scheduler.finished(ending.patience()):
                self._finish(task, result)
            recorder.save(now=False)
            recorder.tick(scheduler.restarts)
            try:
                interrupts.raise_if_asked()
            except KeyboardInterrupt:
                ending.reason = "interrupted"
                break
            ending.check_time()
            awaited = ending.awaited(has_run=recorder.has_run, has_found=bool(recorder.state.findings))
            if awaited == "nothing" or (awaited == "candidates" and not recorder.undecided):
                break
            if awaited == "candidates":
                scheduler.give_up_shards()
        seconds = ending.elapsed
        scheduler.cancel()
        recorder.save(now=True)
        if ending.reason == "time" and not recorder.has_run:
            raise HarnessError(f"not one of the first layouts was run to its end in {seconds:.0f} seconds")
        return make_outcome(self._subject, self._options, recorder, self._reasons, seconds)

    def _next_shard(self) -> ShardTask | None:
        budget = self._ending.budget
        if self._ending.reason or (budget.fail_fast and self._recorder.undecided):
            return None
        if budget.layouts is not None and self._asked >= budget.layouts:
            self._ending.reason = "layouts"
            return None
        shard = whole_shard(self._options.seed, self._numbers.claim())
        self._asked += shard.examples
        return ShardTask(shard)

    def _submit(self, task: Task) -> Future[Any]:
        subject, options, submit = self._subject, self._options, self._workers.submit
        if isinstance(task, ShardTask):
            return submit(run_part, subject, options, task.shard, self._kinds, self._recorder.known())
        return submit(confirm, subject, options, task.candidates)

    def _finish(self, task: Task, result: Any) -> None:
        """Record what a task came to: None if its process ended in each attempt."""
        if not isinstance(task, ShardTask):
            self._recorder.decide(task, result and result.violation)
        elif result is None:
            self._recorder.lose_shard(task.shard)
        else:
            self._scheduler.add(self._recorder.add_shard(task.shard, result))
