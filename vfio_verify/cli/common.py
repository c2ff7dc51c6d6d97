"""Options and helpers that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from vfio_verify.campaign.cluster import ClusterExecutor
    from vfio_verify.judge import Violation

POLICIES = ("same-block", "same-region", "same-device")


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_in(text: str) -> float | None:
    """How long a time is, as in 30s, 5m, 2h, 1d or a number of seconds; None if it is no time, or none at all."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) *([smhd]?)", text)
    return (float(match[1]) * _SECONDS[match[2]] or None) if match else None


def _processors(_context: click.Context, _option: click.Parameter, value: int | None) -> int:
    return value or len(os.sched_getaffinity(0))


def _in_order(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from vfio_verify.values.conventions import in_order

    return in_order(value)


policy_option = click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default=POLICIES[0],
    show_default=True,
    help="Which segments may share a dmabuf: those of one RAMBlock, of one region or of one device.",
)
kept_policy_option = click.option(
    "--policy",
    type=click.Choice(POLICIES),
    help="Which segments may share a dmabuf. [default: the policy under which the case was found]",
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    callback=_processors,
    help="Number of processes. [default: one per processor]",
)
examples_option = click.option(
    "--examples", default=1000, show_default=True, type=click.IntRange(1), help="Number of layouts to run."
)
seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, (1 << 32) - 1),
    help="The same seed gives the same report.",
)
assume_option = click.option(
    "--assume",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_in_order,
    help='Run all in a world with a convention that QEMU does not have. "spec --conventions" lists them.',
)
cluster_option = click.option(
    "--cluster", metavar="URL", help="Run on the Dask cluster whose scheduler is at URL, as in tcp://HOST:PORT."
)
sandbox_option = click.option(
    "--no-sandbox", is_flag=True, help="Do not confine the compiler and the subject. Only for code that you trust."
)


def given_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a subject is read. The command is given them as `given`."""

    @wraps(command)
    def gathered(
        *arguments: Any,
        tree: str | None,
        version: int | None,
        defines: tuple[str, ...],
        directories: tuple[str, ...],
        links: tuple[str, ...],
        **options: Any,
    ) -> None:
        from vfio_verify.subject.source.given import Given

        command(*arguments, given=Given(tree, version, defines, directories, links), **options)

    decorated: Callable[..., Any] = gathered
    for option in (
        click.option(
            "--link", "links", metavar="FILE.so", multiple=True, help="Load a shared library, which SUBJECT calls."
        ),
        click.option(
            "-I", "directories", metavar="DIR", multiple=True, help="Look for included headers in DIR as well."
        ),
        click.option(
            "-D", "defines", metavar="NAME[=VALUE]", multiple=True, help="Define NAME, as the compiler's -D does."
        ),
        click.option("--version", type=click.IntRange(1), help="Which version to take of several in SUBJECT."),
        click.option(
            "--tree",
            metavar="DIR[@COMMIT]",
            help="The sources that SUBJECT is a part of: they supply the rest of a file, and what it uses of others.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def of_subject(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that run cases on a subject."""
    function = click.option("--function", metavar="NAME", help="The function to run, if the source has several.")
    return function(given_options(kept_policy_option(sandbox_option(command))))


def refuse_unwritable(path: str, what: str = "") -> None:
    """Raise InputError if `what` cannot be written there: before the work is done, and not after it."""
    target = Path(path)
    place = target if target.exists() else target.parent
    if target.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"cannot write {what and what + ' '}to {path}")


@contextmanager
def private_hypothesis() -> Iterator[None]:
    """Give Hypothesis a directory that is removed: by default it leaves one where it is run."""
    from vfio_verify.worker.leftovers import private_directory

    with ExitStack() as stack:
        try:
            directory = stack.enter_context(private_directory())
        except OSError as error:
            raise InputError(f"no directory for temporary files; set TMPDIR to one: {error}") from error
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = directory
        yield


@contextmanager
def executor_on(cluster: str | None, say: Callable[[str], None]) -> Iterator[ClusterExecutor | None]:
    """What runs a campaign's tasks, if not this machine. `say` is told of workers that join or are refused."""
    if cluster is None:
        yield None
        return
    from vfio_verify.campaign.cluster import connect

    with connect(cluster, say) as executor:
        yield executor


def say_found(violation: Violation, version: str = "") -> None:
    """Say on standard error what is found, as soon as it is known, and in which version if there are several."""
    from vfio_verify.values.spec import clauses

    what = "found" if clauses()[violation.clause].fails_a_check else "advice"
    assuming = "".join(f"assuming {assumed}: " for assumed in violation.case.assume)
    click.echo(f"{what}: {version and version + ': '}{assuming}{violation.clause}: {violation.summary}", err=True)


def console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error. Nothing in a text is markup."""
    from rich.console import Console
    from rich.segment import Segment

    from vfio_verify.report.outlet import shown

    class PipeConsole(Console):
        def render(self, *arguments: Any, **named: Any) -> Iterator[Segment]:
            """Take away a text's own escapes before it gets those of a style."""
            for segment in super().render(*arguments, **named):
                yield segment if segment.control else Segment(shown(segment.text), segment.style)

        def on_broken_pipe(self) -> None:
            """Rich would exit with 1, which is a verdict here."""
            raise BrokenPipeError

    return PipeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
