"""The command line. Every command imports what it needs when it is called."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from vfio_verify import __version__
from vfio_verify.cli.common import cluster_option, executor_on, jobs_option, policy_option, sandbox_option
from vfio_verify.cli.common import console as _console
from vfio_verify.cli.common import private_hypothesis as _private_hypothesis
from vfio_verify.cli.corpus import COMMANDS, corpus_to_write, keep, read_case
from vfio_verify.cli.fuzz import fuzz
from vfio_verify.cli.outputs import Outputs, output_options
from vfio_verify.errors import InputError, VfioVerifyError
from vfio_verify.report.outlet import harmless_output

if TYPE_CHECKING:
    from vfio_verify.campaign.options import Options
    from vfio_verify.corpus.shared import Corpus
    from vfio_verify.judge import Violation
    from vfio_verify.report.report import Report
    from vfio_verify.values.case import Case, Policy


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> object:
        """Of a broken pipe that has an errno click makes exit status 1, which is a verdict here."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise BrokenPipeError from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="vfio-verify")
def cli() -> None:
    """Finds faults in helpers that map VFIO-backed guest memory for a dmabuf."""


@cli.command(short_help="Check a helper against the spec: the core, a C file or a patch.")
@click.argument("subject")
@click.option("--function", metavar="NAME", help="The function to check, if the source has several.")
@click.option("--examples", default=1000, show_default=True, type=click.IntRange(1), help="Number of layouts to run.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, (1 << 32) - 1),
    help="The same seed gives the same report.",
)
@policy_option
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
    type=click.Path(file_okay=False),
    help="Write each layout to DIR in the form of Hypothesis's observations, for tools that display those.",
)
@sandbox_option
def check(
    subject: str,
    *,
    function: str | None,
    examples: int,
    seed: int,
    policy: Policy,
    jobs: int,
    cluster: str | None,
    outputs: Outputs,
    case_text: str | None,
    corpus: str | None,
    distribution: bool,
    observe: str | None,
    no_sandbox: bool,
) -> None:
    """Check SUBJECT against the spec. SUBJECT is "core", a C file, a patch or mail in any usual form, or - for standard
    input.

    Exit status: 0 it conforms, 1 it violates a clause, 2 the input cannot be used, 3 the harness itself failed, 4
    unconfirmed (nothing is confirmed, but a violation was seen once and not again, or part of the check was left out),
    130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    case = None if case_text is None else _read_case(case_text)
    outputs.refuse_unusable()
    if observe is not None:
        _make_directory(observe)
    kept = None if corpus is None else corpus_to_write(corpus)
    with _private_hypothesis():
        from vfio_verify.campaign.options import Options

        options = Options(
            examples=examples,
            seed=seed,
            policy=policy,
            jobs=jobs,
            sandbox=not no_sandbox,
            observe=None if observe is None else os.path.abspath(observe),
        )
        report = _report(subject, function, options, case=case, corpus=kept, cluster=cluster)
    outputs.write(report, _console())
    if distribution and not outputs.takes_stdout:
        _print_distribution(report)
    sys.exit(report.exit_status)


def _report(
    subject: str,
    function: str | None,
    options: Options,
    *,
    case: Case | None,
    corpus: Corpus | None,
    cluster: str | None,
) -> Report:
    from vfio_verify.campaign.check import check as run_check
    from vfio_verify.campaign.check import check_case
    from vfio_verify.report.report import make_report
    from vfio_verify.subject.subject import open_subject

    with open_subject(subject, function, options.parts) as opened:
        if case is not None:
            result = check_case(opened, options, case)
        else:
            with executor_on(cluster, lambda line: click.echo(f"vfio-verify: {line}", err=True)) as executor:
                result = run_check(opened, options, _say_found, executor=executor)
        if corpus is not None:
            seed = options.seed if case is None else None
            keep(corpus, opened.name, result.confirmed, seed=seed, policy=options.policy)
        return make_report(opened, options, result)


def _print_distribution(report: Report) -> None:
    from vfio_verify.generate.distribution import table

    click.echo()
    for line in table(report.features, report.examples):
        click.echo(line)


def _make_directory(path: str) -> None:
    import tempfile

    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(f"cannot write observations to {path}: {error.strerror}") from error


def _read_case(text: str) -> Case:
    from vfio_verify.values.case import check as check_values

    case = read_case(text).case
    check_values(case)  # one for pages of another size is read, and cannot be run
    return case


def _say_found(violation: Violation) -> None:
    """On standard error, as soon as it is known."""
    from vfio_verify.values.spec import clauses

    what = "found" if clauses()[violation.clause].fails_a_check else "advice"
    click.echo(f"{what}: {violation.clause}: {violation.summary}", err=True)


@cli.command(short_help="Print the spec's clauses, or one of them in full.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("clause", required=False)
def spec(as_json: bool, clause: str | None) -> None:
    """Print the spec's clauses, or one CLAUSE: its rule, its source, and what violates it."""
    import msgspec

    from vfio_verify.report.text import print_spec
    from vfio_verify.values.spec import clauses

    known = clauses()
    if clause is not None and clause.upper() not in known:
        raise InputError(f"there is no clause {clause}; there are {', '.join(known)}")
    chosen = list(known.values()) if clause is None else [known[clause.upper()]]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=1))
    else:
        print_spec(chosen, _console())


for _command in COMMANDS:
    cli.add_command(_command)


@cli.command(short_help="Measure the figures that the project promises.")
@click.option("--quick", is_flag=True, help="Fewer rounds: shows that it works, not how fast it is.")
def bench(quick: bool) -> None:
    """Measure the figures that the project promises, as ratios in one run."""
    from vfio_verify.cli.bench import main as run_bench
    from vfio_verify.cli.bench import print_rows

    print_rows(run_bench(quick=quick), _console())


cli.add_command(fuzz)


def main() -> NoReturn:
    """The console script."""
    asked = _ended_as_by_ctrl_c()
    try:
        _run()
    except SystemExit:
        if asked:
            sys.exit(128 + asked[0])
        raise


def _ended_as_by_ctrl_c() -> list[int]:
    """Have SIGTERM and SIGHUP end a command in order. The list is of those that came."""
    asked: list[int] = []

    def end(number: int, _frame: object) -> None:
        asked.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup(1) wants SIGHUP ignored
            signal.signal(number, end)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background, where SIGTERM holds too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return asked


def _print_any_name() -> None:
    """A file's name need not be text: its bytes are printed as they are, and what no encoding has is escaped."""

    def as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return codecs.lookup_error("surrogateescape")(error)
        except UnicodeError:
            return codecs.backslashreplace_errors(error)

    codecs.register_error("vfio-verify", as_bytes_or_escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="vfio-verify")


def _run() -> NoReturn:
    _print_any_name()
    with harmless_output():
        _run_command()


def _run_command() -> NoReturn:
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except VfioVerifyError as error:
        click.echo(f"vfio-verify: {error}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader has gone; what is still buffered is nobody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  # a fault of ours is exit status 3, and never looks like a verdict
        import traceback

        traceback.print_exc()
        click.echo(f"vfio-verify: internal error: {error}", err=True)
        sys.exit(3)
    sys.exit(0)
