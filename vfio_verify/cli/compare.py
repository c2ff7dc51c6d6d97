"""``vfio-verify compare``: versions of one helper on the same cases."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from vfio_verify.cli.cases import write
from vfio_verify.cli.common import (
    console,
    examples_option,
    given_options,
    jobs_option,
    policy_option,
    private_hypothesis,
    refuse_unwritable,
    sandbox_option,
    say_found,
    seed_option,
)
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from vfio_verify.judge import Violation
    from vfio_verify.subject.source.given import Given
    from vfio_verify.subject.subject import Subject
    from vfio_verify.values.case import Policy
    from vfio_verify.worker.sandbox import SandboxFeature


@click.command(short_help="Compare versions of a helper: what was fixed, what came in.")
@click.argument("subjects", metavar="SUBJECT...", nargs=-1, required=True)
@click.option("--function", metavar="NAME", help="The function to compare, if the sources have several.")
@examples_option
@seed_option
@given_options
@policy_option
@jobs_option
@click.option("--json", "json_file", metavar="FILE", help="Write the outcome as JSON to FILE (- for standard output).")
@sandbox_option
def compare(
    subjects: tuple[str, ...],
    *,
    function: str | None,
    given: Given,
    examples: int,
    seed: int,
    policy: Policy,
    jobs: int,
    json_file: str | None,
    no_sandbox: bool,
) -> None:
    """Compare versions of a helper, from the oldest to the newest, on the same cases. Each SUBJECT is one version, as
    for "check". A single one is an mbox or folder with several versions of a series.

    A version violates what a smallest case of any version shows of it: what was fixed and what came in is told by the
    same case.

    Exit status: 0 the last version violates nothing that the first does not, 1 it does, 2 the input cannot be used, 3
    the harness itself failed, 4 undecided (a violation was seen once and not again, or part of the check was left out),
    130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    if json_file is not None and json_file != "-":
        refuse_unwritable(json_file, "the outcome")
    with private_hypothesis():
        from vfio_verify.campaign.compare import compare as run_compare
        from vfio_verify.campaign.options import Options
        from vfio_verify.campaign.pool import Pool
        from vfio_verify.campaign.shard import get_ready
        from vfio_verify.report.comparison import comparison_report, labels, print_comparison
        from vfio_verify.subject.source.raw import read_once

        options = Options(examples=examples, seed=seed, policy=policy, jobs=jobs, sandbox=not no_sandbox)
        with read_once():
            versions = _versions(subjects, given)
            with Pool(jobs) as pool, ExitStack() as stack:
                pool.map(get_ready, [()] * jobs)  # while the versions are compiled
                opened = [stack.enter_context(_opened(*one, function, options.parts)) for one in versions]
                names = labels(opened)

                def say(version: int, violation: Violation) -> None:
                    say_found(violation, names[version])

                report = comparison_report(opened, options, run_compare(opened, options, pool, say))
    if json_file is not None:
        write(json_file, report.to_json(), "the outcome")
    if json_file != "-":
        print_comparison(report, console())
    sys.exit(report.exit_status)


@contextmanager
def _opened(name: str, given: Given, function: str | None, parts: SandboxFeature) -> Iterator[Subject]:
    """One version, compiled. InputError names it."""
    from vfio_verify.subject.subject import open_subject

    with ExitStack() as stack:
        try:
            subject = stack.enter_context(open_subject(name, function, parts, given))
        except InputError as error:
            if given.version is None and name in str(error):
                raise
            raise InputError(f"{' '.join((name, *given.arguments))}: {error}") from error
        yield subject


def _versions(names: Sequence[str], given: Given) -> list[tuple[str, Given]]:
    """Each version by the name of its input, and how that is read."""
    if len(names) > 1:
        return [(name, given) for name in names]
    from vfio_verify.subject.source.reading import versions_in

    versions = [] if names[0] == "core" or given.version is not None else versions_in(names[0])
    if len(versions) < 2:
        raise InputError(
            f"{names[0]} is one version; give two or more, or an mbox or folder with several versions of a series"
        )
    return [(names[0], replace(given, version=version)) for version in versions]
