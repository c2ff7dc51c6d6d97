"""``vfio-verify check``: one subject held against the spec."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import corpus_to_write, keep, read_case
from vfio_verify.cli.common import (
    assume_option,
    cluster_option,
    console,
    examples_option,
    executor_on,
    given_options,
    jobs_option,
    policy_option,
    private_hypothesis,
    sandbox_option,
    say_found,
    seed_option,
)
from vfio_verify.cli.outputs import Outputs, output_options
from vfio_verify.cli.prove import cbmc_option, segments_option, timeout_option
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from vfio_verify.prove.cbmc import Cbmc
    from vfio_verify.subject.source.given import Given
    from vfio_verify.values.case import Case, Policy


@click.command(short_help="Check a helper against the spec: the core, a C file or a patch.")
@click.argument("subject", nargs=-1, required=True)
@click.option("--function", metavar="NAME", help="The function to check, if the source has several.")
@examples_option
@seed_option
@given_options
@policy_option
@assume_option
@jobs_option
@cluster_option
@output_options
@click.option(
    "--case",
    "case_text",
    metavar="CASE",
    help="Judge only this case: JSON text, a file that holds it, or URL#NAME.",
)
@click.option(
    "--corpus",
    metavar="DIR|URL",
    help="Keep the case of each confirmed violation for replay, in a directory or in redis://HOST/NUMBER.",
)
@click.option("--distribution", is_flag=True, help="Also print how many layouts had each feature.")
@click.option(
    "--observe",
    metavar="DIR",
    type=click.Path(file_okay=False, resolve_path=True),
    help="Write each layout to DIR in the form of Hypothesis's observations, for tools that display those.",
)
@click.option(
    "--prove", "proves", is_flag=True, help="Also prove what can be proved, as the command of that name does."
)
@segments_option
@timeout_option
@cbmc_option
@click.option("--explain", is_flag=True, help="Say first what was taken from the tree, and where it is there.")
@sandbox_option
def check(
    subject: tuple[str, ...],
    *,
    function: str | None,
    given: Given,
    examples: int,
    seed: int,
    policy: Policy,
    assume: tuple[str, ...],
    jobs: int,
    cluster: str | None,
    outputs: Outputs,
    case_text: str | None,
    corpus: str | None,
    distribution: bool,
    observe: str | None,
    proves: bool,
    segments: int,
    seconds: float | None,
    cbmc: str | None,
    explain: bool,
    no_sandbox: bool,
) -> None:
    """Check SUBJECT against the spec. SUBJECT is "core", a C file, a patch or mail in any usual form, an address or
    message-id of one, or - for standard input. Several, or a directory, are one series.

    Exit status: 0 it conforms, 1 it violates a clause, 2 the input cannot be used, 3 the harness itself failed, 4
    unconfirmed (nothing is confirmed, but a violation was seen once and not again, or part of the check was left out),
    130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    case = None if case_text is None else read_case(case_text).case
    outputs.refuse_unusable()
    if observe is not None:
        _make_directory(observe)
    kept = None if corpus is None else corpus_to_write(corpus)
    program = _solver(cbmc, case, policy, assume) if proves else None
    with private_hypothesis():
        from vfio_verify.campaign.check import check as run_check
        from vfio_verify.campaign.check import check_case
        from vfio_verify.campaign.options import Options
        from vfio_verify.report.report import make_report, with_proof
        from vfio_verify.subject.subject import open_subject

        options = Options(
            examples=examples, seed=seed, policy=policy, jobs=jobs, sandbox=not no_sandbox, observe=observe
        )
        world = assume or (case.assume if case is not None else ())
        with open_subject(subject, function, options.parts, given, world) as opened:
            if explain:
                _explain(opened.taken)
            if case is not None:
                result = check_case(opened, options, case)
            else:
                with executor_on(cluster, lambda line: click.echo(f"vfio-verify: {line}", err=True)) as executor:
                    result = run_check(opened, options, say_found, executor=executor)
            proof = None
            if program is not None and not result.interrupted:
                from vfio_verify.prove.proof import Options as ProofOptions
                from vfio_verify.prove.prove import prove as run_proof

                wanted = ProofOptions(segments, seconds=seconds, jobs=jobs, parts=options.parts)
                proof = run_proof(opened, wanted, program, say_found)
                result = with_proof(result, proof)
            if kept is not None:
                behind = result.behind.result.confirmed if result.behind is not None else ()
                keep(kept, opened.name, (*result.confirmed, *behind), seed=None if case else seed, policy=policy)
            report = make_report(opened, options, result, proof)
    outputs.write(report, console())
    if distribution and not outputs.takes_stdout:
        from vfio_verify.generate.distribution import table

        click.echo("\n".join(("", *table(report.features, report.examples))))
    sys.exit(report.exit_status)


def _solver(cbmc: str | None, case: Case | None, policy: Policy, assume: tuple[str, ...]) -> Cbmc:
    """What proves, besides a check. Raises InputError if there is none, or if it could not prove what is checked."""
    from vfio_verify.prove.cbmc import find

    if case is not None or assume or policy != "same-block":
        raise InputError("--prove goes without --case, --assume and --policy")
    return find(cbmc)


def _make_directory(path: str) -> None:
    import tempfile

    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(f"cannot write observations to {path}: {error.strerror}") from error


def _explain(taken: tuple[str, ...]) -> None:
    """Say on standard error what a subject uses of its tree."""
    for line in taken:
        click.echo(f"taken: {line}", err=True)
    if not taken:
        click.echo("nothing was taken from a tree", err=True)
