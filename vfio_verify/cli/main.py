"""The command line: the group of commands, and what becomes of their errors and of signals.

Every command imports what it needs when it is called.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import signal
import sys
from typing import NoReturn

import click

from vfio_verify import __version__
from vfio_verify.cli.check import check
from vfio_verify.cli.compare import compare
from vfio_verify.cli.fuzz import fuzz
from vfio_verify.cli.merge import merge
from vfio_verify.cli.prove import prove
from vfio_verify.cli.replay import replay
from vfio_verify.cli.schema import schema
from vfio_verify.cli.show import show
from vfio_verify.cli.shrink import shrink
from vfio_verify.cli.spec import spec
from vfio_verify.errors import VfioVerifyError
from vfio_verify.report.outlet import harmless_output


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> object:
        """Hide a broken pipe's errno from click, which makes of it exit status 1: a verdict here."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise BrokenPipeError from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="vfio-verify")
def cli() -> None:
    """Finds faults in helpers that map VFIO-backed guest memory for a dmabuf."""


for _command in (check, compare, fuzz, merge, prove, replay, schema, show, shrink, spec):
    cli.add_command(_command)


def main() -> NoReturn:
    """The console script."""
    asked = _ended_as_by_ctrl_c()
    _print_any_name()
    try:
        with harmless_output():
            _run()
    except SystemExit:
        if asked:
            sys.exit(128 + asked[0])
        raise
    finally:
        gc.freeze()  # at its end, the interpreter would look for garbage in all that was imported


def _ended_as_by_ctrl_c() -> list[int]:
    """Have SIGTERM and SIGHUP end a command in order. The list holds those that arrived."""
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
    """Print the name of a file, which need not be text, by its bytes, and escape what no encoding has."""

    def as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return codecs.lookup_error("surrogateescape")(error)
        except UnicodeError:
            return codecs.backslashreplace_errors(error)

    codecs.register_error("vfio-verify", as_bytes_or_escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="vfio-verify")


def _run() -> NoReturn:
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
