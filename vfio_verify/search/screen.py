"""How a search is shown: a screen on a terminal, which is redrawn in place; elsewhere a line now and then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from msgspec.structs import replace
from rich.console import Console
from rich.live import Live
from rich.text import Text

from vfio_verify.generate.distribution import rows
from vfio_verify.report.case_text import reproduce_line
from vfio_verify.report.text import print_report
from vfio_verify.search.outcome import Outcome
from vfio_verify.search.state import Finding
from vfio_verify.search.watcher import SearchProgress
from vfio_verify.values.features import FEATURES
from vfio_verify.values.spec import clauses

_WIDTH, _NAME_WIDTH = 80, 11
_BLOCKS_SHOWN = 5
_REDRAWN_SECONDS = 0.24
_BUDGET_ENDS = {
    "time": "the time is up",
    "layouts": "the layouts are run",
    "found": "a violation was found",
    "interrupted": "interrupted",
}


def duration(seconds: float) -> str:
    """0:07, 5:00, 1:00:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def finding_line(finding: Finding) -> str:
    """A confirmed violation on one line."""
    what = "found" if clauses()[finding.violation.clause].fails_a_check else "advice"
    where = "" if finding.file is None else f" [{finding.file}]"
    return f"{what}: {finding.violation.clause}: {finding.violation.summary}{where}"


def _time(progress: SearchProgress) -> str:
    left = progress.budget.seconds
    if left is None:
        return duration(progress.elapsed)
    left -= progress.elapsed
    return f"{duration(progress.elapsed)}, " + (f"{duration(math.ceil(left))} left" if left > 0 else "no time left")


def _rates(progress: SearchProgress) -> tuple[str, str]:
    elapsed = max(progress.elapsed, 1e-3)
    return f"{progress.new_layouts / elapsed:,.0f}/s", f"{progress.new_runs / elapsed:,.0f}/s"


def _covered(progress: SearchProgress) -> tuple[int, int]:
    """How many clauses were exercised, and how many features were met."""
    checked, features = progress.state.checked, progress.state.features
    return sum(name in checked for name in clauses()), sum(name in features for name in FEATURES)


class Lines(AbstractContextManager[None]):
    """For a file, a pipe or a log: a line for each finding, and one every `interval` seconds. `crew` says who is at
    work, if that is worth a word."""

    def __init__(self, console: Console, interval: float, crew: Callable[[], str] | None = None) -> None:
        self._console, self._interval, self._crew = console, interval, crew
        self._next = interval

    def __exit__(self, *error: object) -> None:
        """Do nothing: a `Screen` has something to put away."""

    def found(self, finding: Finding) -> None:
        self.note(finding_line(finding))

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def tick(self, progress: SearchProgress) -> None:
        if progress.elapsed < self._next:
            return
        self._next = (progress.elapsed // self._interval + 1) * self._interval
        by_layout, by_run = _rates(progress)
        exercised, met = _covered(progress)
        state = progress.state
        self.note(
            f"{_time(progress)}: {progress.layouts:,} layouts ({by_layout}), {progress.runs:,} calls ({by_run}), "
            f"{exercised}/{len(clauses())} clauses, {met}/{len(FEATURES)} features, "
            f"{'{}/{} lines, '.format(*progress.lines) if progress.lines[1] else ''}"
            f"{len(state.findings)} found, {state.deaths} deaths, {state.hangs} hangs"
            f"{'' if self._crew is None else f', {self._crew()}'}"
        )


class Screen(Live):
    """For a terminal: what is known, redrawn in place, with the findings above it. `crew` says who is at work."""

    def __init__(self, console: Console, title: str, crew: Callable[[], str], corpus: str | None) -> None:
        # All that is written here is the console's, which has the streams as they are: behind an outlet.
        super().__init__(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._title, self._crew, self._corpus = title, crew, corpus
        self._drawn = -_REDRAWN_SECONDS

    def found(self, finding: Finding) -> None:
        fails = clauses()[finding.violation.clause].fails_a_check
        self.console.print(Text(finding_line(finding), style="red" if fails else "yellow"), soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def tick(self, progress: SearchProgress) -> None:
        if progress.elapsed - self._drawn < _REDRAWN_SECONDS:
            return
        self._drawn = progress.elapsed
        width = min(self.console.width, _WIDTH)
        lines = [Text(self._title, style="bold"), *self._rows(progress)]
        for line in lines:
            line.truncate(width - 1, overflow="ellipsis")
        self.update(Text("\n").join(lines), refresh=True)

    def _rows(self, progress: SearchProgress) -> Iterator[Text]:
        state = progress.state
        by_layout, by_run = _rates(progress)
        exercised, met = _covered(progress)
        yield _row("time", f"{_time(progress)}; {self._crew()}, {state.shards:,} shards")
        yield _row("layouts", f"{progress.layouts:,}, {by_layout}")
        yield _row("calls", f"{progress.runs:,}, {by_run}")
        restarts = f", {progress.restarts} restarts of jobs" if progress.restarts else ""
        yield _row("processes", f"{state.deaths:,} ended by the subject, {state.hangs:,} of them hung{restarts}")
        yield _row("clauses", f"{exercised} of {len(clauses())} exercised")
        if silent := [name for name in clauses() if name not in state.checked]:
            yield _row("", f"not yet: {', '.join(silent)}", style="dim")
        violated = dict.fromkeys(finding.violation.clause for finding in state.findings)
        if violated:
            yield _row("violated", ", ".join(violated), style="bold red")
        yield _row("features", f"{met} of {len(FEATURES)} met")
        if progress.lines[1]:
            yield _row("lines", "{} of {} reached".format(*progress.lines))
        if state.features:
            yield _row("", f"rarest: {_rarest(progress)}", style="dim")
        kept = f"{progress.new_entries} new in {self._corpus}" if self._corpus is not None else "nothing is kept"
        yield _row("corpus", kept)
        if progress.undecided:
            yield _row("", f"{progress.undecided} being confirmed and minimized", style="dim")
        if state.findings:
            yield _row("last", finding_line(state.findings[-1]))


def _row(name: str, text: str, style: str = "") -> Text:
    return Text(name.ljust(_NAME_WIDTH), style="cyan") + Text(text, style=style)


def _rarest(progress: SearchProgress) -> str:
    met = sorted(rows(progress.state.features, progress.state.layouts), key=lambda row: row.met)
    return ", ".join(f"{row.feature} ({row.met:,})" for row in met if row.share is not None and row.met)


# ---- the end ----------------------------------------------------------------------------------------------------


def print_outcome(outcome: Outcome, console: Console, corpus: str | None) -> None:
    """Print the report as after a check, with its first violations only; then what was covered, and all findings."""
    report, state = outcome.report, outcome.state
    shown = report.violations[:_BLOCKS_SHOWN]
    print_report(replace(report, violations=shown), console)

    def line(text: str = "", style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    line()
    for row in _feature_table(outcome):
        line(row)
    line()
    if state.findings:
        plural = "s" if len(state.findings) > 1 else ""
        place = "" if corpus is None else f", in {corpus}"
        line(f"{len(state.findings)} finding{plural}{place}", style="bold")
        for finding in state.findings:
            line(f"  {duration(finding.seconds)}  {finding_line(finding)}")
            if finding.violation not in shown:
                line(f"    {reproduce_line(finding.violation.case, report)}")
        line()
    new = f"{outcome.new_layouts:,} layouts and {outcome.new_runs:,} calls in {duration(outcome.seconds)}"
    sooner = "" if state.seconds - outcome.seconds < 1 else f"; {duration(state.seconds)} with earlier searches"
    line(f"Ended since {_BUDGET_ENDS[outcome.reason]}: {new}{sooner}.")


def _feature_table(outcome: Outcome) -> Iterator[str]:
    found = list(rows(outcome.state.features, outcome.state.layouts))
    width = max(len(row.feature) for row in found) + 2
    yield f"{'feature':<{width}}{'layouts':>10}{'share':>8}"
    for row in found:
        if row.share is not None and row.met:
            yield f"{row.feature:<{width}}{row.met:>10,}{row.share:>8.1%}"
    faults = [row for row in found if row.share is None]
    if faults:
        yield ""
        yield f"Besides, {len(faults)} kinds of faults and of steps after a call."
    if never := [row.feature for row in found if not row.met]:
        yield f"Never met: {', '.join(never)}."
