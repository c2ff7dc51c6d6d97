"""What several commands need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def private_hypothesis() -> Iterator[None]:
    """Hypothesis keeps a directory for itself, by default where it is run; a check leaves nothing there."""
    try:
        private = tempfile.TemporaryDirectory(prefix="vfio-verify-")
    except OSError as error:
        raise InputError(f"no directory for temporary files; set TMPDIR to one: {error}") from error
    with private as directory:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = directory
        yield


def console(*, stderr: bool = False) -> Console:
    """On standard output, or on standard error. Nothing in a text is markup."""
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            """Rich would exit with 1, which is a verdict here."""
            raise BrokenPipeError

    return PipeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
