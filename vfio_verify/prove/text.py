"""The C text that a proof is about: what the library under test was compiled from."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.prove.proof import digest
from vfio_verify.subject.subject import Subject


class Text(Struct, frozen=True):
    """What is preprocessed, and where it finds what it includes."""

    path: Path
    own: tuple[Path, ...]
    """The files that make it up, but for headers of the world's and the system's."""
    defines: tuple[str, ...]
    directory: str | None
    """That of files which it includes by their names alone."""
    systems: tuple[Path, ...] = ()
    """Directories of a system's headers that a subject's text has no need of."""
    readable: tuple[Path, ...] = ()
    """What a confined compiler may read for it."""
    of_model: tuple[Path, ...] = ()
    """Files of the model's that are part of it."""

    def digests(self, model: Path, program: Sequence[str]) -> tuple[str, str]:
        """That of the text, and that of the model with a program's files."""
        return digest(self.own), digest([*(model / name for name in ("model.h", *program)), *self.of_model])


def text_of(subject: Subject, model: Path) -> Text:
    """The text of a subject; `model` is the directory of the model in C. Raises InputError for a core without its."""
    if subject.unit is not None:
        directory = subject.text.directory if subject.text else None
        return Text(subject.unit, (subject.unit,), tuple(subject.defines), directory, readable=tuple(subject.readable))
    found = find_spec("vfio_verify._core")
    assert found is not None
    assert found.origin is not None
    module = Path(found.origin)
    made = module.with_name("_core.c")
    headers = Path(sysconfig.get_config_var("INCLUDEPY"))
    if not made.exists():
        raise InputError(f"the C text of which the core was compiled is not beside {module}: build it anew")
    if not (headers / "Python.h").exists():
        raise InputError(
            f"a proof of the core needs the headers of this Python ({headers / 'Python.h'}):\n"
            "Debian, Ubuntu:  apt-get install python3-dev\nFedora, RHEL:    dnf install python3-devel"
        )
    wrapper, calls = model / "core.c", made.with_name("core_calls.h")
    return Text(wrapper, (made, calls), (), str(made.parent), (headers,), (made, calls), (wrapper, model / "core.h"))
