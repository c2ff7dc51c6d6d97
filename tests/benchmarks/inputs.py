"""How soon an input is read: a patch of a few lines in a large tree, and the function in a long file."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.campaigns import SUBJECT, first_violation_seconds

from vfio_verify.subject.source import read_source

_OTHER = """
static int helper_{n}(int a, struct thing_{n} *t)
{{
    int i, sum = 0;

    for (i = 0; i < a; i++) {{
        if (t->count > i) {{
            sum += t->member[i].len;  /* as much as there is */
        }} else {{
            goto out;
        }}
    }}
out:
    return sum * {n};
}}

struct thing_{n} {{
    int count;
    struct {{ size_t len; void *p; }} member[10];
}};

#define LIMIT_{n}(x) ((x) * {n})
"""
_NEEDED = "static bool find_source"


def follow_up_seconds(files: int, *arguments: object) -> float:
    """From the start of a check of a patch with its tree until it says "found". The tree has this many files of some
    10 KB; one of them defines a helper, and another the macro that it uses."""
    text = SUBJECT.read_text(encoding="ascii")
    helper, begin, rest = text.partition("bool vfio_device_mmap_dmabuf")
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        tree = Path(directory, "tree")
        for n in range(files):
            path = tree / f"d{n % 100}" / f"f{n}.{'h' if n % 5 == 0 else 'c'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_OTHER.format(n=m) for m in range(n, n + 20)), encoding="ascii")
        (tree / "d7/source.c").write_text(helper.replace(_NEEDED, "bool find_source"), encoding="ascii")
        (tree / "d9/own.h").write_text(
            "#define NO_ENTRIES 0\nbool find_source(struct iovec *, unsigned int, RAMBlock **, Error **);\n",
            encoding="ascii",
        )
        changed = f'#include "own.h"\n{begin}{rest}'.replace("size_t done = 0;", "size_t done = NO_ENTRIES;")
        (tree / "d1/map.c").write_text(changed, encoding="ascii")
        lines = changed.split("\n")
        at = next(i for i, line in enumerate(lines) if "done = NO_ENTRIES" in line)
        diff = [
            f"@@ -{at},3 +{at},3 @@",
            f" {lines[at - 1]}",
            "-    size_t done;",
            f"+{lines[at]}",
            f" {lines[at + 1]}",
        ]
        before = [*lines[:at], "    size_t done;", *lines[at + 1 :]]
        (tree / "d1/map.c").write_text("\n".join(before), encoding="ascii")
        patch = Path(directory, "follow-up.patch")
        patch.write_text("\n".join(["--- a/d1/map.c", "+++ b/d1/map.c", *diff, ""]), encoding="ascii")
        return first_violation_seconds(patch, "--tree", tree, *arguments)


def reading_seconds(lines: int) -> float:
    """The time in which the function is cut out of a C file of about this many lines."""
    text = "".join(_OTHER.format(n=n) for n in range(lines // _OTHER.count("\n")))
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        path = Path(directory, SUBJECT.name)
        path.write_text(text + SUBJECT.read_text(encoding="ascii"), encoding="ascii")
        start = time.monotonic()
        read_source(str(path))
        return time.monotonic() - start
