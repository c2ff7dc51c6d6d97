"""The command that searches until a budget is spent."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.common import (
    assume_option,
    cluster_option,
    console,
    executor_on,
    given_options,
    jobs_option,
    policy_option,
    private_hypothesis,
    sandbox_option,
    seconds_in,
)
from vfio_verify.cli.outputs import Outputs, output_options

if TYPE_CHECKING:
    from vfio_verify.subject.source.given import Given
    from vfio_verify.values.case import Policy

_DEFAULT_SECONDS = 60.0


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    seconds = seconds_in(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is not a time; write 30s, 5m, 2h, 1d or a number of seconds")
    return seconds


def _part(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{value!r} is not a part of the work; write 1/2 or 2/2 for its halves")
    return int(match[1]) - 1, int(match[2])


@click.command(short_help="Search for violations until a budget is spent.")
@click.argument("subject", nargs=-1, required=True)
@click.option("--function", metavar="NAME", help="The function to search, if the source has several.")
@click.option(
    "--time",
    "seconds",
    metavar="TIME",
    callback=_seconds,
    help="How long to search: 30s, 5m, 2h, 1d. [default: 60s, unless another option says when to end]",
)
@click.option(
    "--examples", type=click.IntRange(1), help="Run at least this many more layouts. Shards are always run whole."
)
@click.option("--until-found", is_flag=True, help="End when a violation is confirmed.")
@click.option(
    "--fail-fast", is_flag=True, help="Like --until-found, and start nothing else once a violation has been seen."
)
@jobs_option
@cluster_option
@click.option(
    "--corpus",
    default="vfio-verify-corpus",
    show_default=True,
    metavar="DIR|URL",
    help="Where cases and the progress of the search are kept: a directory, or redis://HOST/NUMBER.",
)
@click.option(
    "--shard",
    "part",
    metavar="I/N",
    callback=_part,
    default="1/1",
    help="Do one of N parts of the work, as on N machines.",
)
@click.option("--fresh", is_flag=True, help="Start over instead of continuing where the last search ended.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, (1 << 32) - 1),
    help="Another seed gives other layouts.",
)
@given_options
@policy_option
@assume_option
@click.option(
    "--interval",
    metavar="TIME",
    callback=_seconds,
    default="10s",
    show_default=True,
    help="Time between lines of progress, where there is no terminal.",
)
@click.option("--plain", is_flag=True, help="Print lines instead of a screen, on a terminal too.")
@output_options
@sandbox_option
def fuzz(
    subject: tuple[str, ...],
    *,
    function: str | None,
    given: Given,
    seconds: float | None,
    examples: int | None,
    until_found: bool,
    fail_fast: bool,
    jobs: int,
    cluster: str | None,
    corpus: str,
    part: tuple[int, int],
    fresh: bool,
    seed: int,
    policy: Policy,
    assume: tuple[str, ...],
    interval: float,
    plain: bool,
    outputs: Outputs,
    no_sandbox: bool,
) -> None:
    """Search SUBJECT for violations until a budget is spent. Each is confirmed, minimized and kept in a corpus.

    The same search on the same corpus continues where the last one ended. On a corpus in Redis, several searches share
    the work.

    Exit status: 0 nothing was found, 1 a clause is violated (found now or earlier), 2 the input cannot be used, 3 the
    harness itself failed, 4 unconfirmed (a violation was seen once and not again, or part of the work was left out),
    130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    outputs.refuse_unusable()
    if seconds is None and examples is None and not until_found and not fail_fast:
        seconds = _DEFAULT_SECONDS
    from vfio_verify.corpus.shared import open_corpus

    kept = open_corpus(corpus)
    with private_hypothesis():
        from vfio_verify.campaign.options import Options
        from vfio_verify.search.budget import Budget
        from vfio_verify.search.fuzz import fuzz as search
        from vfio_verify.search.screen import Lines, Screen, print_outcome
        from vfio_verify.search.state import Part
        from vfio_verify.subject.subject import open_subject

        options = Options(seed=seed, policy=policy, jobs=jobs, sandbox=not no_sandbox)
        budget = Budget(seconds, examples, until_found, fail_fast)
        its_part = Part(*part)
        err = console(stderr=True)
        watcher: Lines | Screen

        def say(line: str) -> None:
            watcher.note(line)

        with (
            open_subject(subject, function, options.parts, given, assume) as opened,
            executor_on(cluster, say) as executor,
        ):
            if err.is_terminal and not err.is_dumb_terminal and not plain:
                title = f"{opened.function}() in {opened.name}" if opened.kind == "C" else opened.name
                title += "" if its_part.of == 1 else f", part {its_part}"
                watcher = Screen(err, title, executor.crew if executor else lambda: f"{jobs} jobs", kept.shown)
            else:
                watcher = Lines(err, interval, executor.crew if executor else None)
            with watcher:
                outcome = search(
                    opened, options, budget, watcher, corpus=kept, part=its_part, fresh=fresh, executor=executor
                )
    out = console()
    outputs.write(outcome.report, out, data=outcome.to_json(), show=lambda: print_outcome(outcome, out, kept.shown))
    sys.exit(outcome.report.exit_status)
