"""``vfio-verify prove``: a helper proved, or refuted, for every value at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vfio_verify.cli.cases import corpus_to_write, keep, known_clause, write
from vfio_verify.cli.common import (
    console,
    given_options,
    jobs_option,
    private_hypothesis,
    refuse_unwritable,
    sandbox_option,
    say_found,
    seconds_in,
)
from vfio_verify.cli.outputs import Outputs, output_options
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from vfio_verify.subject.source.given import Given


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    seconds = seconds_in(value)
    if seconds is None:
        raise InputError(f"{value} is no time; write it as 90s, 5m or 1h")
    return seconds


segments_option = click.option(
    "--segments", default=2, show_default=True, type=click.IntRange(1, 8), help="Prove it for up to so many segments."
)
cbmc_option = click.option(
    "--cbmc", metavar="PATH", help="The program of CBMC. [default: $VFIO_VERIFY_CBMC, else cbmc on PATH]"
)
timeout_option = click.option(
    "--timeout",
    "seconds",
    metavar="TIME",
    callback=_seconds,
    help="End a proof after so long, as in 90s or 5m, with what is decided.",
)


@contextmanager
def _progress() -> Iterator[Callable[[int, float], None]]:
    """Says on a terminal's standard error how far it is."""
    shown = time.monotonic()
    is_shown = False

    def say(inputs: int, part: float) -> None:
        nonlocal shown, is_shown
        if sys.stderr.isatty() and time.monotonic() - shown > 1:
            shown, is_shown = time.monotonic(), True
            click.echo(f"\r{inputs:,} inputs, {part:.0%}", err=True, nl=False)

    try:
        yield say
    finally:
        if is_shown:
            click.echo("\r\033[K", err=True, nl=False)


@click.command(short_help="Prove clauses for every value at once, by bounded model checking.")
@click.argument("subject", nargs=-1, required=True)
@click.option("--function", metavar="NAME", help="The function to prove, if the source has several.")
@segments_option
@click.option(
    "--clause", "names", metavar="CLAUSE", multiple=True, help="Decide only this clause. [default: all that can be]"
)
@timeout_option
@click.option(
    "--exhaust",
    is_flag=True,
    help="Run all inputs of a small scope instead, without CBMC. The larger --segments, the longer: 2 take seconds.",
)
@given_options
@jobs_option
@cbmc_option
@click.option("--certificate", metavar="FILE", help="Write what was proved of which text to FILE, as JSON.")
@click.option("--verify", metavar="FILE", help="Prove again what a certificate says, and compare.")
@output_options
@click.option(
    "--corpus",
    metavar="DIR|URL",
    help="Keep the case of each confirmed violation for replay, in a directory or in redis://HOST/NUMBER.",
)
@sandbox_option
def prove(
    subject: tuple[str, ...],
    *,
    function: str | None,
    segments: int,
    names: tuple[str, ...],
    seconds: float | None,
    exhaust: bool,
    given: Given,
    jobs: int,
    cbmc: str | None,
    certificate: str | None,
    verify: str | None,
    outputs: Outputs,
    corpus: str | None,
    no_sandbox: bool,
) -> None:
    """Decide the clauses for all layouts of up to so many segments, with every length, offset and size, and every
    single fault. SUBJECT is "core", or C code in any form that "check" takes. CBMC does it, which must be installed;
    --exhaust runs all of a small scope without it. What refutes a clause is run for real before it is told.

    Exit status: 0 all is proved or holds, 1 a clause is violated, 2 the input cannot be used, 3 the model and a real
    run disagree or the harness itself failed, 4 something is not decided, 130 interrupted. With --verify: 0 the proof
    is the same, 1 it differs.
    """
    from vfio_verify.prove import certificate as certificates
    from vfio_verify.prove.cbmc import find

    before = None if verify is None else certificates.read(verify)
    asked = tuple(dict.fromkeys(known_clause(name) for name in names))
    if before is not None:
        segments, asked = before.segments, tuple(map(known_clause, before.clauses))
    outputs.refuse_unusable()
    kept = None if corpus is None else corpus_to_write(corpus)
    if certificate is not None:
        refuse_unwritable(certificate, "the certificate")
    if exhaust and (cbmc or certificate or verify):
        raise InputError("--exhaust needs no --cbmc, and proves nothing that --certificate or --verify could tell of")
    program = None if exhaust else find(cbmc)
    with private_hypothesis():
        from vfio_verify.campaign.options import Options
        from vfio_verify.prove import proof as proofs
        from vfio_verify.prove.exhaust import exhaust as run_all
        from vfio_verify.prove.prove import prove as run_proof
        from vfio_verify.report.report import make_proof_report
        from vfio_verify.subject.subject import open_subject

        if impossible := [name for name in asked if name not in proofs.provable()]:
            raise InputError(f"no proof decides {', '.join(impossible)}; there are {', '.join(proofs.provable())}")
        options = Options(jobs=jobs, sandbox=not no_sandbox)
        with open_subject(subject, function, options.parts, given) as opened:
            wanted = proofs.Options(segments, asked, seconds, jobs, options.parts)
            if program is None:
                with _progress() as say_progress:
                    proof = run_all(opened, wanted, say_found, say_progress)
            else:
                proof = run_proof(opened, wanted, program, say_found)
            if kept is not None:
                keep(kept, opened.name, proof.confirmed, seed=None, policy=options.policy)
            report = make_proof_report(opened, options, proof)
    now = certificates.certificate(opened.name, opened.function, proof)
    if certificate is not None:
        write(certificate, certificates.to_json(now), "the certificate")
    outputs.write(report, console())
    if before is not None and not proof.interrupted:
        different = before.differences(now)
        click.echo("\n".join(f"differs: {text}" for text in different) or "the same as the certificate says", err=True)
        sys.exit(1 if different else 0)
    sys.exit(report.exit_status)
