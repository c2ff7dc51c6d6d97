"""Pointers of which CBMC has too few bits."""

from __future__ import annotations

import shutil
import subprocess

import commands
import proved_texts
import pytest
from places import TESTS
from subject_files import needs_compiler

from vfio_verify.prove.pointers import FAR, UNREAD, guarded


def asserted(body: str) -> bytes:
    """A function with what is inserted, which the compiler takes; the last lines are as they were."""
    text = (
        f"typedef unsigned long size;\nvoid f(char *p, long *q, size n, int i, char **a)\n{{\n{body}\n}}\n/* end */\n"
    )
    made, unread = guarded(text.encode(), frozenset({2}))
    assert unread == []
    assert made.count(b"\n") == text.count("\n")
    compiler = shutil.which("gcc") or shutil.which("cc") or ""
    told = subprocess.run(
        [compiler, "-x", "c", "-w", "-fsyntax-only", "-"], input=made, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return made


@needs_compiler
@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("p = p + n;", 2),
        ("p += n;", 1),
        ("p -= n + 4096;", 1),
        ("i = n - 1;", 0),
        ("p = &p[n];", 1),
        ("q = q + n * sizeof(*q);", 2),
        ("p = a[i] + (n - i);", 1 + 2 + 1),
        ('p = (p\n# 7 "x.c" 3 4\n + n);', 2),
        ("int k __attribute__((unused)) = n - i;", 1),
        ("__auto_type m = p + n; (void)m;", 2),
        ("p = *a++ + n;", 2),
        ("i = p - *a;", 1),
        # Nothing is added that is not a constant, or a constant is asked for.
        ("p = p + 1; p = p - sizeof(long);", 0),
        ("char b[4 + 8]; switch (i) { case 3 + 4: break; }", 0),
        ("static int k = 3 - (sizeof(int) + 1); k = (size)-1;", 0),
        ("n = __builtin_offsetof(struct { int a, b; }, b) + n;", 0),
    ],
)
def test_each_sum_is_looked_at_and_stays_c(body, count):
    assert asserted(body).count(b"__CPROVER_assert(") == count


def test_other_functions_are_left_alone():
    text = b"char *f(char *p, long n) { return p + n; }\nchar *g(char *p, long n) { return p + n; }\n"
    made, _ = guarded(text, frozenset({1}))
    assert made.splitlines()[0] == text.splitlines()[0]
    assert made.splitlines()[1] != text.splitlines()[1]


def test_a_sum_that_cannot_be_read_is_told():
    assert guarded(b"void f(char *p, long n)\n{\n  p = p + (struct x)(n, struct y);\n}\n", frozenset({2}))[1] == [2]


FAR_END = """{
    char *end = n ? (char *)iov[0].iov_base + iov[0].iov_len : NULL;

    if (n && end != (char *)((size_t)iov[0].iov_base + iov[0].iov_len)) {
        return false;
    }
    error_setg(errp, "no");
    return false;
}
"""


def test_what_rests_on_a_far_pointer_is_not_decided(cbmc, tmp_path):
    """On a machine the two ends are equal, and the error is always set."""
    told = proved_texts.prove(tmp_path / "f.c", FAR_END, "ERROR_SET")
    assert told.returncode == 4, told.stdout
    assert FAR in told.stdout


def test_what_rests_on_a_near_one_is(cbmc, tmp_path):
    near = FAR_END.replace("n && end", "n && iov[0].iov_len < 4096 && end").replace(
        "n ? (", "n && iov[0].iov_len < 4096 ? ("
    )
    told = proved_texts.prove(tmp_path / "f.c", near, "ERROR_SET")
    assert told.returncode == 0, told.stdout


DIFFERENCES = """{
    char *map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    RAMBlock *block;
    ram_addr_t at;

    if (map != MAP_FAILED && n && (block = qemu_ram_block_from_host(iov[0].iov_base, false, &at))) {
        size_t offset = (uint8_t *)iov[0].iov_base - block->host;

        if (offset != at || (iov[0].iov_len <= total_size && map + iov[0].iov_len < map)) {
            return false;
        }
    }
    error_setg(errp, "no");
    return false;
}
"""


def test_differences_of_pointers_and_sums_within_a_mapping_are_decided(cbmc, tmp_path):
    told = proved_texts.prove(tmp_path / "f.c", DIFFERENCES, "ERROR_SET")
    assert told.returncode == 0, told.stdout


@pytest.mark.prove
def test_the_subjects_have_no_sum_that_cannot_be_read(cbmc, tmp_path):
    path = TESTS / "subjects/correct/capability_of_sparse_areas.c"
    told = commands.run("prove", path, "--segments", 1, "--clause", "NOT_EMPTY", "--jobs", 2, cwd=tmp_path)
    assert told.returncode == 0, told.stdout
    assert UNREAD not in told.stdout
