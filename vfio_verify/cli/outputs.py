"""Where a report goes: as text, JSON, JUnit XML and SARIF, and to GitHub Actions; and the options that say so."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct, field

from vfio_verify.cli.cases import write
from vfio_verify.cli.common import refuse_unwritable
from vfio_verify.errors import HarnessError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from vfio_verify.report.location import Locations
    from vfio_verify.report.report import Report


class Outputs(Struct, frozen=True):
    """What the user asked for, as file names; "-" is standard output, which then gets nothing else."""

    json: str | None = None
    junit: str | None = None
    sarif: str | None = None
    annotate: bool = False
    """Whether the first violations are marked, and the job's summary is written, for GitHub Actions."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def takes_stdout(self) -> bool:
        """Whether standard output holds a form that nothing else may be mixed into."""
        return "-" in (self.json, self.junit, self.sarif)

    def refuse_unusable(self) -> None:
        """Raise InputError before a run that may be long."""
        paths = [path for path in (self.json, self.junit, self.sarif) if path is not None]
        if paths.count("-") > 1:
            raise InputError("only one report can go to standard output (-)")
        files = [path for path in paths if path != "-"]
        for path in files:
            refuse_unwritable(path, "the report")
        regular = [os.path.realpath(path) for path in files if not _is_special(path)]
        if twice := [path for path in regular if regular.count(path) > 1]:
            raise InputError(f"two reports cannot go to the same file {twice[0]}")

    def write(
        self, report: Report, console: Console, *, data: bytes | None = None, show: Callable[[], None] | None = None
    ) -> None:
        """Write the files first, so that a reader who leaves early does not cost them. Raises HarnessError.

        `data` is JSON to write instead of the report's own, and `show` prints something else to be read.
        """
        # Imported late, as by the commands: --help needs none of it.
        from vfio_verify.report.annotations import stopped_commands
        from vfio_verify.report.sarif import to_sarif
        from vfio_verify.report.text import print_report

        seconds = time.monotonic() - self.begun
        places = _locations(report)
        failed: list[HarnessError] = []

        def put(path: str | None, form: Callable[[], bytes]) -> None:
            try:
                if path is not None:
                    write(path, form(), "the report")
            except HarnessError as error:  # the other forms are still to be written
                failed.append(error)

        put(self.json, lambda: report.to_json() if data is None else data)
        put(self.junit, lambda: _junit(report, seconds))
        put(self.sarif, lambda: to_sarif(report, places))
        stop, go_on = stopped_commands() if self.annotate else ("", "")
        if not self.takes_stdout:
            _echo_command(stop)
            try:
                print_report(report, console) if show is None else show()
            finally:
                _echo_command(go_on)
        if self.annotate:
            _annotate(report, places, on_stderr=self.takes_stdout)
        if failed:
            raise failed[0]


def _junit(report: Report, seconds: float) -> bytes:
    from vfio_verify.report.junit import to_junit  # what makes XML is needed here alone

    return to_junit(report, seconds)


def _echo_command(line: str, *, on_stderr: bool = False) -> None:
    """Write a command for a runner as bytes, which pass the outlet unchanged."""
    if line:
        click.echo(line.encode(), err=on_stderr)


def _annotate(report: Report, places: Locations, *, on_stderr: bool) -> None:
    """GitHub reads commands from either stream; where a report is all of standard output, it stays so."""
    from vfio_verify.report.annotations import commands, summary

    for line in commands(report, places):
        _echo_command(line, on_stderr=on_stderr)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(page, "ab") as file:
                file.write(summary(report))
        except OSError as error:  # a page that is missing must not cost the verdict
            click.echo(f"vfio-verify: cannot write the job's summary to {page}: {error.strerror}", err=True)


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where a report goes. The command is given them as `outputs`."""

    @wraps(command)
    def gathered(
        *arguments: Any,
        json_file: str | None,
        junit_file: str | None,
        sarif_file: str | None,
        annotate: bool | None,
        **options: Any,
    ) -> None:
        if annotate is None:
            annotate = os.environ.get("GITHUB_ACTIONS") == "true"
        command(*arguments, outputs=Outputs(json_file, junit_file, sarif_file, annotate), **options)

    forms = (("sarif", "SARIF 2.1.0"), ("junit", "JUnit XML"), ("json", "JSON"))
    decorated: Callable[..., None] = click.option(
        "--annotate/--no-annotate",
        default=None,
        help="Mark the first violations for GitHub Actions and add to the job's summary. [default: only there]",
    )(gathered)
    for name, words in forms:
        text = f"Write the report as {words} to FILE (- for standard output)."
        decorated = click.option(f"--{name}", f"{name}_file", metavar="FILE", help=text)(decorated)
    return decorated


def _locations(report: Report) -> Locations:
    """Places relative to the workspace of a job that runs in it, and else to the current directory."""
    from vfio_verify.report.location import locate

    root = here = Path.cwd()
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and here.is_relative_to(os.path.realpath(workspace)):
        root = Path(os.path.realpath(workspace))
    return locate(report, root, here)


def _is_special(path: str) -> bool:
    """Whether it is a device or a pipe, such as /dev/null."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
