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

from vfio_verify.cli.common import refuse_unwritable
from vfio_verify.errors import HarnessError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from vfio_verify.report.report import Report


class Outputs(Struct, frozen=True):
    """What the user asked for, as file names; "-" is standard output, which then gets nothing else."""

    json: str | None = None
    junit: str | None = None
    sarif: str | None = None
    annotate: bool = False
    """Are the first violations marked, and the job's summary written, for GitHub Actions?"""
    begun: float = field(default_factory=time.monotonic)

    @property
    def takes_stdout(self) -> bool:
        """Does standard output hold a form that nothing else may be mixed into?"""
        return "-" in (self.json, self.junit, self.sarif)

    def refuse_unusable(self) -> None:
        """Before a run that may be long. Raises InputError."""
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
        """Files first, so that a reader who leaves early does not cost them. Raises HarnessError.

        `data` is JSON to write in the report's place, and `show` prints what is to be read in its place.
        """
        failed = [self._write_form(report, path, form) for path, form in self._forms(data)]
        if not self.takes_stdout:
            self._print(report, console, show)
        if self.annotate:
            self._annotate(report, on_stderr=self.takes_stdout)
        for message in filter(None, failed):
            raise HarnessError(message)

    def _forms(self, data: bytes | None) -> list[tuple[str, Callable[[Report], bytes]]]:
        # Imported late, as by the commands: --help needs none of it.
        from vfio_verify.report.junit import to_junit
        from vfio_verify.report.location import locate, locate_violations
        from vfio_verify.report.sarif import to_sarif

        seconds = time.monotonic() - self.begun
        here, root = Path.cwd(), source_root()
        forms: tuple[tuple[str | None, Callable[[Report], bytes]], ...] = (
            (self.json, lambda report: report.to_json() if data is None else data),
            (self.junit, lambda report: to_junit(report, seconds)),
            (
                self.sarif,
                lambda report: to_sarif(
                    report, locate(report.subject, root, here), root, locate_violations(report, root, here)
                ),
            ),
        )
        return [(path, form) for path, form in forms if path is not None]

    @staticmethod
    def _write_form(report: Report, path: str, form: Callable[[Report], bytes]) -> str | None:
        """What is wrong with the file, if anything: the other forms are still to be written."""
        data = form(report)
        if path == "-":
            click.echo(data, nl=False)
            return None
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            return f"cannot write the report to {path}: {error.strerror}"
        return None

    def _print(self, report: Report, console: Console, show: Callable[[], None] | None) -> None:
        from vfio_verify.report.annotations import stopped_commands
        from vfio_verify.report.text import print_report

        shown = show or (lambda: print_report(report, console))
        if not self.annotate:
            shown()
            return
        stop, go_on = stopped_commands()
        click.echo(stop.encode())
        try:
            shown()
        finally:
            click.echo(go_on.encode())

    @staticmethod
    def _annotate(report: Report, *, on_stderr: bool) -> None:
        """GitHub reads commands from either stream; where a report is all of standard output, it stays so."""
        from vfio_verify.report.annotations import commands, summary
        from vfio_verify.report.location import locate, locate_violations

        root, here = source_root(), Path.cwd()
        places = locate_violations(report, root, here)
        for line in commands(report, locate(report.subject, root, here), places):
            click.echo(line.encode(), err=on_stderr)
        if page := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with open(page, "ab") as file:
                    file.write(summary(report))
            except OSError as error:  # a page that is missing must not cost the verdict
                click.echo(f"vfio-verify: cannot write the job's summary to {page}: {error.strerror}", err=True)


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where a report goes. The command is given them as `outputs`, and first refuses what
    cannot be written."""

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


def source_root() -> Path:
    """What paths in findings are relative to: the workspace of a job that runs in it, else the current directory."""
    here = Path.cwd()
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and here.is_relative_to(os.path.realpath(workspace)):
        return Path(os.path.realpath(workspace))
    return here


def _is_special(path: str) -> bool:
    """A device or a pipe, such as /dev/null."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
