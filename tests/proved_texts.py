"""Subjects of a few lines, and what a proof says of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import commands

_INTERFACE = "bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)"
HEAD = f'#include "qemu/osdep.h"\n#include "qapi/error.h"\n{_INTERFACE};\n{_INTERFACE}\n'
"""What goes before a body in braces, which begins in line 5."""


def prove(path: Path, body: str, clause: str) -> subprocess.CompletedProcess[str]:
    """Write a subject, and decide one clause of it for a segment, as JSON."""
    path.write_text(HEAD + body)
    asked = ("--segments", 1, "--clause", clause, "--json", "-", "--jobs", 2)
    return commands.run("prove", path, *asked, cwd=path.parent)
