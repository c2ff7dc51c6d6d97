"""Reading a subject: formats, post-images, the function and what it reaches. Subjects are our own."""

# ruff: noqa: E501  a C text on one line shows what it is

from __future__ import annotations

import base64
import io
import json
import quopri
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vfio_verify
from vfio_verify.errors import InputError
from vfio_verify.subject.source import Source, items, read_source
from vfio_verify.subject.source.signatures import Signature
from vfio_verify.subject.source.text import Fragment, preprocess
from vfio_verify.subject.source.world_names import read_names

HEAD = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
BODY = "{\n    *addr = NULL;\n    return true;\n}\n"
WHOLE = f"{HEAD}\n{BODY}"


@pytest.fixture
def read(tmp_path):
    """Write a text to a file without a telling name, and read it as a subject."""

    def read(content: str | bytes, function: str | None = None) -> Source:
        path = tmp_path / "input"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_source(str(path), function)

    return read


def new_file(text: str, path: str = "hw/vfio/new.c") -> str:
    lines = text.removesuffix("\n").split("\n")
    added = "".join(f"+{line}\n" for line in lines)
    return (
        f"diff --git a/{path} b/{path}\nnew file mode 100644\nindex 0000000000..1111111111\n"
        f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n{added}"
    )


def change(
    before: int, context: str, added: str, after: str = "", *, path: str = "hw/vfio/old.c", section: str = ""
) -> str:
    lead, tail = context.splitlines(), after.splitlines()
    plus = added.splitlines()
    length = len(lead) + len(tail)
    body = [*(" " + line for line in lead), *("+" + line for line in plus), *(" " + line for line in tail)]
    return (
        f"diff --git a/{path} b/{path}\nindex 1..2 100644\n--- a/{path}\n+++ b/{path}\n"
        f"@@ -{before},{length} +{before},{length + len(plus)} @@{' ' + section if section else ''}\n"
        + "\n".join(body)
        + "\n"
    )


def mail(diff: str, subject: str = "[PATCH] vfio: map it", encoding: str = "8bit") -> bytes:
    body = f"A message.\n\nWith text {{ and braces.\n---\n one.c | 3 +++\n\n{diff}-- \n2.40.1\n".encode()
    if encoding == "base64":
        body = base64.encodebytes(body)
    elif encoding == "quoted-printable":
        body = quopri.encodestring(body)
    return (
        b"From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\n"
        b"From: A Person <a@example.org>\n"
        + f"Subject: {subject}\n".encode()
        + b'MIME-Version: 1.0\nContent-Type: text/plain; charset="UTF-8"\n'
        + f"Content-Transfer-Encoding: {encoding}\n\n".encode()
        + body
        + b"\n"
    )


def kept(source: Source) -> str:
    """What the unit holds of the sources, without the prologue and the entry."""
    return source.unit.split('#include "vfio_verify/qemu.h"\n', 1)[1].split('#line 1 "<entry', 1)[0]


def lines_of(source: Source) -> dict[tuple[str, int], str]:
    """The unit's text by the file and line that the compiler will believe it came from."""
    found, file, line = {}, "", 0
    for written in kept(source).split("\n"):
        if marker := re.fullmatch(r'#line (\d+) "(.*)"', written):
            line, file = int(marker.group(1)), marker.group(2)
        else:
            found[file, line] = written
            line += 1
    return found


# ---- formats ---------------------------------------------------------------------------------------


def tracker_json(diff: str | None) -> str:
    return json.dumps({"id": 1, "name": "[v2,1/1] vfio: map it", "content": "text", "diff": diff}, indent=4)


PAGE = "get:\nShow a patch.\n\nGET /api/patches/1/?format=api\nHTTP 200 OK\nAllow: GET, PUT\nContent-Type: application/json\n\n"
FORMATS = {
    "tracker page": (PAGE + tracker_json(new_file(WHOLE)), "[v2,1/1] vfio: map it"),
    "json": (tracker_json(new_file(WHOLE)), "[v2,1/1] vfio: map it"),
    "mail": (mail(new_file(WHOLE)), "[PATCH] vfio: map it"),
    "quoted-printable": (mail(new_file(WHOLE), encoding="quoted-printable"), "[PATCH] vfio: map it"),
    "base64": (mail(new_file(WHOLE), encoding="base64"), "[PATCH] vfio: map it"),
    "folded, encoded subject": (
        mail(new_file(WHOLE), "=?utf-8?q?vfio=3A_map?=\n =?utf-8?q?_=C3=A9?="),
        "vfio: map é",
    ),
    "git diff": (new_file(WHOLE), None),
    "git show": ("commit 1234\nAuthor: A <a@b.c>\n\n    A message.\n\n" + new_file(WHOLE), None),
    "crlf diff": (new_file(WHOLE).replace("\n", "\r\n"), None),
    "crlf mail": (mail(new_file(WHOLE)).replace(b"\n", b"\r\n"), "[PATCH] vfio: map it"),
    "plain diff": (
        "--- old.c\t2026-01-01\n+++ hw/vfio/new.c\t2026-01-02\n@@ -0,0 +1,5 @@\n" + new_file(WHOLE).split("@@\n")[1],
        None,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_told_by_its_content(read, name):
    content, title = FORMATS[name]
    source = read(content)
    assert (source.target.name, source.target.signature, source.title) == ("subject", Signature.BOOL, title)
    assert (source.target.item.file, source.target.item.line) == ("hw/vfio/new.c", 1)
    assert kept(source) == f'#line 1 "hw/vfio/new.c"\n{WHOLE}'


def test_a_c_file_is_read(read, tmp_path):
    source = read("/* a file */\n\n" + WHOLE)
    assert (source.title, source.target.item.place) == (None, f"{tmp_path / 'input'}:3")
    assert source.target.signature.is_told_total
    assert source.target.signature.has_errp


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(WHOLE.encode())))
    source = read_source("-")
    assert (source.name, source.target.item.file, source.text.directory) == ("-", "<standard input>", None)


def test_a_c_file_with_crlf_and_latin_1_is_read(read):
    source = read(b"/* caf\xe9 */\r\n" + WHOLE.replace("\n", "\r\n").encode() + b"/* more */\r\n")
    assert source.target.item.line == 2
    assert "\r" not in source.unit


def test_a_c_file_that_quotes_a_diff_in_a_comment_is_a_c_file(read):
    source = read("/* as in\n--- a/x.c\n+++ b/x.c\n@@ -1,1 +1,1 @@\n-a\n+b\n*/\n" + WHOLE)
    assert source.target.item.line == 8


BAD = {
    "no such file": (None, "no such file"),
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "blank in Unicode": ("\u2028\u00a0".encode(), "is empty"),
    "binary": (b"\x7fELF\x02\x01\x01\0\0\0", "binary"),
    "control characters": (bytes(range(1, 32)) * 3, "binary"),
    "json without a diff": (b'{"detail": "Not found."}', 'JSON without a "diff"'),
    "cover letter": (tracker_json(None).encode(), 'JSON without a "diff"'),
    "series page": (b'{"patches": [{"id": 1}]}', "its mbox does"),
    "broken json": (b'{"diff": "', "looks like JSON but is not"),
    "deep json": (b"[" * 100000, "looks like JSON but is not"),
    "html": (b"<!DOCTYPE html>\n<html></html>", "HTML"),
    "mail without a diff": (b"From: a@b.c\nSubject: Re: it\n\nI like it.\n", "a mail without a diff"),
    "hunk cut off": (new_file(WHOLE).rsplit("\n", 3)[0].encode(), "input: the diff cannot be read at its line "),
    "hunk too short": (
        new_file(WHOLE).replace(f"\n+{HEAD}", f"\n{'x' * 5000}\n+{HEAD}", 1).encode(),
        "the diff cannot be read at its line 7: Hunk diff line expected: xxx",
    ),
    "hunk without a file": (b"@@ -1,2 +1,3 @@\n a\n+b\n c\n", "without the names of their files"),
    "no c in the patch": (new_file("text", "docs/x.rst").encode(), "changes no C file (files: docs/x.rst)"),
    "no function": (b"int x;\n", "defines no function"),
    "not C at all": (b"hello, world\n", "defines no function"),
}


# Each had the time that they were looked at grow with the square of their size, or more.
LONG = {
    "blank lines": "\n" * 20_000 + "int f(void);\n" + WHOLE,
    "a long word": "x" * 20_000 + "\n" + WHOLE,
    "a head that is none": "class x " * 20_000 + WHOLE,
    "calls that are not closed": "int x = f(" + "f(" * 20_000 + ")" * 20_001 + ";" + "f(" * 20_000 + WHOLE,
    "lists that are not closed": "a {" * 20_000 + WHOLE,
    "lines of a modifier": "const\n" * 20_000 + ";\n" + WHOLE,
    "a title of brackets": "From: a@b.c\nSubject: " + "[PATCH v2] " * 3000 + "\n\n" + new_file(WHOLE),
    "a title of a long number": f"From: a@b.c\nSubject: [PATCH v{'9' * 9999} 1/{'9' * 9999}]\n\n" + new_file(WHOLE),
}


@pytest.mark.parametrize("name", LONG)
def test_a_text_made_to_take_long_is_read_at_once(read, name):
    begun = time.process_time()
    with suppress(InputError):
        read(LONG[name])
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_its_reason(tmp_path, name):
    content, reason = BAD[name]
    path = tmp_path / "input"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(reason)):
        read_source(str(path))


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        read_source(str(tmp_path))


def test_empty_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input is empty"):
        read_source("-")


def test_a_huge_file_is_refused_with_the_limit(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InputError, match="larger than 16 MiB"):
        read_source(str(path))


def test_a_function_name_that_is_none_is_refused(read):
    with pytest.raises(InputError, match="not the name of a C function"):
        read(WHOLE, "a b")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "input"
    path.write_bytes(data)
    try:
        read_source(str(path))
    except InputError as error:
        assert str(error)  # noqa: PT017  most bytes are refused, some are not


PARTS = [
    "{",
    "}",
    "(",
    ")",
    ";",
    "\n",
    "#if 0\n",
    "#ifdef A\n",
    "#else\n",
    "#endif\n",
    "/*",
    "*/",
    '"',
    "'",
    "\\",
    WHOLE,
    "x",
    "=",
    "struct s ",
    "#define A B\n",
    "typedef ",
    "\n\n",
]


@given(st.lists(st.sampled_from(PARTS), max_size=30).map("".join), st.booleans())
def test_any_mixture_of_c_is_split_within_its_bounds(text, whole):
    parsed = items.read(preprocess(Fragment("x.c", 1, text, whole=whole)))
    for item in parsed.items:
        assert 0 <= item.start < item.end <= len(text)


# ---- post-images -----------------------------------------------------------------------------------


def test_lines_are_numbered_as_in_the_file_after_the_patch(read):
    source = read(change(700, "    }\n    return 1;\n}", "\n" + WHOLE, "\nint next(int a)\n{\n    if (a) {"))
    assert source.target.item.line == 704
    assert lines_of(source)["hw/vfio/old.c", 704] == HEAD
    assert "next" not in kept(source)


def test_a_hunk_that_begins_inside_a_comment_disturbs_nothing(read):
    source = read(change(10, " * don't { mind\n */\nint before(void)\n{\n    return 1;\n}", WHOLE))
    assert source.target.item.line == 16
    assert "before" not in kept(source)


def test_the_end_of_a_comment_in_a_string_is_no_end_of_a_comment(read):
    source = read(change(10, 'static const char *glob = "*/x";', "\n" + with_helpers("", "puts(glob)")))
    assert "glob = " in kept(source)


def test_a_hunk_that_begins_inside_a_conditional_leaves_its_directives_out(read):
    source = read(change(10, "int before;\n#else", WHOLE, "#endif\nint after;"))
    assert source.target.item.line == 12
    assert "#" not in kept(source).replace("#line", "")


def test_a_file_that_a_series_renames_is_followed(read):
    first = change(1, "int x;", "static int helper(void) { return 1; }\n" + with_helpers("", "helper()"), path="a.c")
    second = (
        "diff --git a/a.c b/b.c\nsimilarity index 90%\nrename from a.c\nrename to b.c\n--- a/a.c\n+++ b/b.c\n"
        "@@ -1,2 +1,3 @@\n int x;\n+int y;\n static int helper(void) { return 1; }\n"
    )
    source = read(mail(first, "[PATCH 1/2] a") + mail(second, "[PATCH 2/2] b"))
    assert source.target.item.file == "b.c"
    assert "static int helper" in kept(source)


def test_a_file_that_a_series_removes_is_gone(read):
    gone = (
        new_file(WHOLE, "a.c")
        .replace("new file", "deleted file")
        .replace("--- /dev/null\n+++ b/a.c", "--- a/a.c\n+++ /dev/null")
    )
    gone = gone.replace("@@ -0,0 +1,5 @@", "@@ -1,5 +0,0 @@").replace("\n+bool", "\n-bool")
    gone = "\n".join("-" + line[1:] if line[:1] == "+" and line[:3] != "+++" else line for line in gone.split("\n"))
    source = read(
        mail(new_file(WHOLE, "a.c"), "[PATCH 1/3] a")
        + mail(gone, "[PATCH 2/3] b")
        + mail(new_file(WHOLE, "c.c"), "[PATCH 3/3] c")
    )
    assert source.target.item.file == "c.c"


def test_context_lines_of_a_function_body_are_no_file_scope_variables(read):
    """`limit` in the first hunk is a local variable of a function that the patch shows in part."""
    first = change(10, "    int limit = 3;\n    call(limit);", "    more();", section="int other(void)")
    second = "@@ -50,0 +52,5 @@\n" + "".join(
        f"+{line}\n" for line in (HEAD + "\n{\n    limit(iov);\n    return 0;\n}").split("\n")
    )
    assert "int limit" not in kept(read(first + second))


def test_a_function_changed_in_part_is_refused(read):
    diff = change(10, f"{HEAD}\n{{\n    int i;", "    i = 1;", "    call(i);")
    with pytest.raises(
        InputError,
        match=r"hw/vfio/old.c: the patch holds only a part of subject\(\); give it with --tree DIR, or as `git diff -W`",
    ):
        read(diff, "subject")


def test_a_function_changed_in_its_middle_is_refused_by_the_name_in_the_hunk(read):
    diff = change(10, "    int i;", "    i = 1;", "    call(i);", section=HEAD)
    with pytest.raises(InputError, match=r"only a part of subject\(\)"):
        read(diff, "subject")


def test_a_helper_changed_in_part_is_refused_when_it_is_reached(read):
    part = change(10, "    int i;", "    i = 1;", "    call(i);", section="int helper(void)")
    calls = new_file(WHOLE.replace("return true", "return helper()"))
    with pytest.raises(InputError, match=r"hw/vfio/old.c: the patch holds only a part of helper\(\)"):
        read(part + calls)
    assert read(part + new_file(WHOLE)).target.name == "subject"


def test_a_helper_shown_in_part_but_not_changed_is_the_worlds(read):
    part = change(10, "    return 1;\n}\n", "int x;", section="int helper(void)")
    source = read(part + new_file(WHOLE.replace("return true", "return helper()")))
    assert "return helper()" in kept(source)


def test_a_series_is_applied_in_the_order_of_its_numbers(read):
    """The second patch changes what the first one added; the archive holds them the other way round."""
    first = change(5, "}\n\n", "static int helper(void)\n{\n    return 1;\n}\n\n" + WHOLE.replace("true", "helper()"))
    second = (
        "diff --git a/hw/vfio/old.c b/hw/vfio/old.c\n--- a/hw/vfio/old.c\n+++ b/hw/vfio/old.c\n"
        "@@ -7,4 +7,5 @@\n static int helper(void)\n {\n-    return 1;\n+    int two = 2;\n+    return two;\n }\n"
    )
    series = (
        mail(second, "[PATCH v2 2/2] second") + mail(first, "[PATCH v2 1/2] first") + mail("", "[PATCH v2 0/2] cover")
    )
    source = read(series)
    assert source.title == "[PATCH v2 1/2] first"
    assert lines_of(source)["hw/vfio/old.c", 10] == "    return two;"
    assert source.target.item.line == 13
    assert lines_of(source)["hw/vfio/old.c", 13] == HEAD


def test_the_title_is_that_of_the_patch_that_brings_the_function(read):
    """Not of one that calls it."""
    caller = "static bool caller(struct iovec *v, Error **e)\n{\n    return subject(v, 1, NULL, 0, e);\n}\n"
    series = mail(new_file(WHOLE), "[PATCH 1/2] brings") + mail(new_file(caller, "b.c"), "[PATCH 2/2] calls")
    assert read(series).title == "[PATCH 1/2] brings"


def test_a_patch_that_changes_what_is_around_the_function_does_not_give_the_title(read):
    """The second patch removes the line before it and adds one, so that its numbers move."""
    second = (
        "diff --git a/hw/vfio/new.c b/hw/vfio/new.c\n--- a/hw/vfio/new.c\n+++ b/hw/vfio/new.c\n"
        f"@@ -1,4 +1,5 @@\n+int w;\n+int z;\n int x;\n-int y;\n {HEAD}\n {{\n"
    )
    first = new_file("int x;\nint y;\n" + WHOLE)
    source = read(mail(first, "[PATCH 1/2] brings") + mail(second, "[PATCH 2/2] moves"))
    assert (source.title, source.target.item.line) == ("[PATCH 1/2] brings", 4)


def test_a_patch_that_does_not_follow_is_refused(read):
    wrong = new_file(WHOLE) + "--- a/hw/vfio/new.c\n+++ b/hw/vfio/new.c\n@@ -1,2 +1,3 @@\n another\n+line\n thing\n"
    with pytest.raises(InputError, match="does not follow from the patches before it"):
        read(wrong)


def test_two_versions_of_a_series_are_refused(read):
    with pytest.raises(InputError, match=r"several versions of a series \(v1, v2\)"):
        read(mail(new_file(WHOLE), "[PATCH 1/1] a") + mail(new_file(WHOLE), "[PATCH v2 1/1] a"))


def test_replies_are_no_patches(read):
    source = read(mail(new_file(WHOLE)) + mail(new_file(WHOLE.replace("NULL", "iov")), "Re: [PATCH] vfio: map it"))
    assert "*addr = NULL" in kept(source)


def test_a_hunk_that_git_slid_down_is_put_together(read):
    """git may show the added function as beginning in the last lines of the one before."""
    tail = "}\n\nint next(void)\n{\n    return 1;"
    added = "\n".join([HEAD, *BODY.split("\n")[:-2], "}", "", "int before(void)", "{", "    return 2;"])
    source = read(change(20, "", added, tail))
    assert source.target.item.line == 20
    assert kept(source).count("}") == 1


# ---- which function ----------------------------------------------------------------------------------

SHAPES = {
    "void *f(struct virtio_gpu_simple_resource *res, VFIODevice *vdev)": Signature.RESOURCE_DEVICE,
    "static void *f(struct virtio_gpu_simple_resource *r,\n    struct VFIODevice *const v)": Signature.RESOURCE_DEVICE,
    "void *f(struct virtio_gpu_simple_resource *res)": Signature.RESOURCE,
    HEAD: Signature.BOOL,
    "_Bool f(const struct iovec v[], const guint n, gpointer *a, uint64_t t, struct Error **e)": Signature.BOOL,
    "static inline gboolean f(struct iovec *v, int n, void **a, unsigned long long t, Error **e)": Signature.BOOL,
    "bool coroutine_fn G_GNUC_UNUSED f(struct iovec *v, size_t n, void **a, hwaddr t, Error **e)": Signature.BOOL,
    "__attribute__((noinline, aligned(8))) bool f(struct iovec *v, int n, void **a, size_t t, Error **e)": Signature.BOOL,
    "SOME_ATTRIBUTE bool f(struct iovec *v, int n, void **a, size_t t, Error **e)": Signature.BOOL,
    "void *f(struct iovec *iov, unsigned n, Error **errp)": Signature.POINTER,
    "gpointer\nf(struct iovec *iov,\n  unsigned n,  /* how many */\n  Error **errp)": Signature.POINTER,
    "void *f(const iov_t *iov, count_t n, Error **errp)": Signature.POINTER,
}


@pytest.mark.parametrize("head", SHAPES)
def test_a_signature_is_told_by_its_types(read, head):
    text = f"typedef struct iovec iov_t;\ntypedef unsigned short count_t;\n{head}\n{{\n    return 0;\n}}\n"
    assert read(text).target.signature is SHAPES[head]


OTHERS = [
    "int f(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)",
    "bool f(struct iovec *iov, unsigned int n, void *addr, size_t total, Error **errp)",
    "bool f(struct iovec *iov, unsigned int n, int *fd, Error **errp)",
    "bool f(struct iovec **iov, unsigned int n, void **addr, size_t total, Error **errp)",
    "bool f(struct iovec *iov, unsigned int n, void **addr, double total, Error **errp)",
    "void *f(struct iovec *iov, unsigned int *n, Error **errp)",
    "void f(struct virtio_gpu_simple_resource *res)",
    "void *f(struct iovec *iov, unsigned int n, Error **errp, ...)",
    "void *f(struct iovec *iov, unsigned int n, void (*g)(void))",
    "void *f(void)",
]


@pytest.mark.parametrize("head", OTHERS)
def test_another_signature_is_refused_and_shown(read, head):
    text = f"\n{head}\n{{\n    return 0;\n}}\n"
    for function in (None, "f"):
        with pytest.raises(InputError) as caught:
            read(text, function)
        assert f"input:2: {head}" in str(caught.value)
        assert "--function" in str(caught.value)
        assert str(Signature.POINTER) in str(caught.value)


def test_the_usual_name_goes_before_types(read):
    usual = WHOLE.replace("subject", "vfio_device_mmap_dmabuf")
    assert read(WHOLE + usual).target.name == "vfio_device_mmap_dmabuf"
    assert read(WHOLE + usual, "subject").target.name == "subject"


def test_two_candidates_are_refused_and_listed(read):
    with pytest.raises(InputError) as caught:
        read(WHOLE + WHOLE.replace("subject", "second"))
    assert "choose one with --function NAME" in str(caught.value)
    assert f"input:1: {HEAD}" in str(caught.value)
    assert "input:6: bool second(" in str(caught.value)


def test_a_prototype_is_no_definition(read):
    with pytest.raises(InputError, match="does not define subject"):
        read(f"{HEAD};\nint other(void) {{ return 1; }}\n", "subject")
    assert read(f"{HEAD};\n{WHOLE}").target.item.line == 2


def test_a_second_definition_under_if_0_is_not_seen(read):
    assert read(f"#if 0\n{WHOLE}#endif\n{WHOLE}").target.item.line == 8
    assert read(f"#if 1\n{WHOLE}#else\n{WHOLE}#endif\n").target.item.line == 2


def test_a_stub_in_the_other_branch_gives_way(read):
    stub = HEAD + "\n{\n    return 0;\n}\n"
    for text, line in (
        (f"#ifdef CONFIG_X\n{WHOLE}#else\n{stub}#endif\n", 2),
        (f"#ifndef CONFIG_X\n{stub}#else\n{WHOLE}#endif\n", 7),
    ):
        source = read(text)
        assert source.target.item.line == line
        assert "#define CONFIG_X 1" in source.unit


def test_a_name_in_a_comment_or_string_is_no_function(read):
    source = read(f'/* {WHOLE} */\n// {HEAD} {{\nconst char *s = "{HEAD} {{ }}";\n{WHOLE}')
    assert kept(source).count("bool subject") == 1


# ---- exact bounds ------------------------------------------------------------------------------------

BODIES = [
    "    g_autofree struct range *p = NULL;\n    g_autofree char *q = NULL, *r = NULL;\n    g_autoptr(Thing) t = NULL;",
    "    QLIST_FOREACH(x, &list, next) { if (x) { break; } }\n    QTAILQ_FOREACH_SAFE(x, y, z, w)\n    {\n        x++;\n    }",
    '    char c = \'{\', d = \'\\\'\', e = \'"\';\n    const char *s = "}" "/*" "\\"}" /* } */; // }',
    "#ifdef A\n    if (a) {\n#elif defined(B)\n    if (b) {\n#else\n    if (c) {\n#endif\n        x();\n    }",
    "#if 0\n    }\n    it's broken {{{\n#endif\n    x();",
    "    WITH_RCU_READ_LOCK_GUARD() {\n        x();\n    }\n    do { x(); } while (0);",
    "    struct { int a[2]; } v = { .a = { 1, 2 } };\n    int (*f)(int, void (*)(void)) = ({ 0; });\nerr:\n    x();",
    "#define LOCAL(x) do { \\\n    x; \\\n    } while (0)\n    LOCAL(x());\n#undef LOCAL",
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("in_patch", [False, True])
def test_bounds_are_exact_whatever_the_body_holds(read, body, in_patch):
    function = f"{HEAD}\n{{\n{body}\n    return true;\n}}\n"
    around = f"static int before(void)\n{{\n    return 0;\n}}\n\n{function}\nstatic int after(void) {{ return 1; }}\n"
    source = read(new_file(around) if in_patch else around)
    assert kept(source).split("\n", 1)[1] == function
    assert source.target.item.line == 6


def test_a_function_that_defines_a_macro_is_found_by_its_name(read):
    text = f"{HEAD}\n{{\n#define LOCAL 1\n    return LOCAL;\n}}\n"
    assert read(text, "subject").target.name == "subject"


def test_macros_at_file_scope_disturb_no_function(read):
    before = (
        "OBJECT_DECLARE_TYPE(A, B, C)\nDECLARE_X(\n    a,\n    b)\ntype_init(some_types)\n"
        "static QLIST_HEAD(, Group) groups = QLIST_HEAD_INITIALIZER(groups);\nMODULE_THING(x);\n"
    )
    source = read(before + WHOLE)
    assert source.target.item.line == 8
    assert kept(source).split("\n", 1)[1] == WHOLE


def test_a_head_split_over_branches_is_kept_with_all_of_them(read):
    other = HEAD.replace("unsigned int n", "size_t n")
    text = f"#ifdef WIDE\n{other}\n#else\n{HEAD}\n#endif\n{BODY}"
    source = read(text)
    for line in text.splitlines():
        assert line in kept(source)


def test_braces_on_any_line_do(read):
    compact = HEAD + " { *addr = NULL; return true; } int after(void) { return 1; }\n"
    source = read(compact)
    assert "after" not in kept(source)
    assert kept(source).rstrip().endswith("return true; }")


def test_a_file_without_its_last_brace_is_refused(read):
    with pytest.raises(InputError, match=r"the end of subject\(\) was not found"):
        read(WHOLE.removesuffix("}\n"), "subject")


# ---- what is reached ---------------------------------------------------------------------------------


def with_helpers(helpers: str, use: str) -> str:
    return f"{helpers}\n{HEAD}\n{{\n    {use};\n    return true;\n}}\n"


REACHED = {
    "static helper": ("static int helper(void)\n{\n    return 1;\n}", "helper()"),
    "chain": ("static int a(void) { return 1; }\nstatic int b(void) { return a(); }", "b()"),
    "function pointer": (
        "static int a(void) { return 1; }\nstatic int (*const table[])(void) = { a, a };",
        "table[0]()",
    ),
    "macro": ("#define ONE \\\n    TWO\n#define TWO 2", "int x = ONE"),
    "macro with parameters": ("#define ADD(a, b) ((a) + (b))", "int x = ADD(1, 2)"),
    "macro used as a member": ("#define field real.field", "iov->field"),
    "macro and undef": ("#define ONE 1\n#undef ONE\n#define ONE 2", "int x = ONE"),
    "struct": (
        "struct inner { int a; };\nstruct outer {\n    struct inner i;\n} __attribute__((packed));",
        "struct outer o",
    ),
    "typedef": ("typedef struct Pair {\n    int a, b;\n} Pair;", "Pair p"),
    "anonymous typedef": ("typedef struct {\n    int a;\n} Pair;", "Pair p"),
    "enumerator": ("enum { RED, GREEN = 7 };", "int x = GREEN"),
    "union": ("union u { int a; float b; };", "union u v"),
    "variable": ('static const char *names[] = { "a;", "}" };', "puts(names[0])"),
    "two on one line": ("static int x1, *x2 = NULL;", "x2 = &x1"),
    "prototype that the file defines": (
        "static int a(void);\nstatic int b(void) { return a(); }\nstatic int a(void) { return b(); }",
        "b()",
    ),
    "prototype that nobody defines": ("int getpagesize(void);", "getpagesize()"),
    "conditional": (
        "#ifdef FAST\nstatic int a(void) { return 1; }\n#else\nstatic int a(void) { return 2; }\n#endif",
        "a()",
    ),
    "macro in a condition": ("#define FAST 1\n#if FAST\nstatic int a(void) { return 1; }\n#endif", "a()"),
    "made by a macro": (
        "#define GETTER(n) static int get_##n(void) { return 1; }\nGETTER(size)",
        "get_size()",
    ),
    "system header": ("#include <sys/ioctl.h>", "ioctl(0, 0)"),
}


@pytest.mark.parametrize("name", REACHED)
def test_what_is_reached_is_kept(read, name):
    helpers, use = REACHED[name]
    text = kept(read(with_helpers(helpers, use)))
    for line in helpers.splitlines():
        assert line in text.splitlines(), line


NOT_REACHED = {
    "function": ("static struct unknown *a(void) { return b; }", "x()"),
    "field of the same name": ("static int iov_length(void) { return 1; }", "iov->iov_length"),
    "struct of the same name": ("struct stat2 { int a; };", "stat2()"),
    "name in a string": ("static int helper(void) { return 1; }", 'puts("helper")'),
    "qemu's headers": (
        '#include "qemu/osdep.h"\n#include "hw/vfio/vfio-device.h"\n#include <glib.h>\n#include <glib/gprintf.h>',
        "x()",
    ),
    "forward declaration alone": (
        "bool vfio_device_lookup(struct iovec *iov, VFIODevice **v, Error **errp);",
        "vfio_device_lookup(iov, 0, 0)",
    ),
    "type registration": ("static void register_types(void) { }\ntype_init(register_types)", "x()"),
}


@pytest.mark.parametrize("name", NOT_REACHED)
def test_what_is_not_reached_is_left_out(read, name):
    helpers, use = NOT_REACHED[name]
    text = kept(read(with_helpers(helpers, use)))
    for line in helpers.splitlines():
        assert line not in text.splitlines(), line


def test_directives_stay_balanced(read):
    text = (
        "#ifndef GUARD\n#define GUARD\n#ifdef X\n# if Y > 2\nstatic int a(void) { return 1; }\n# else\nint not_needed;\n"
        "# endif\n#elif Z\n#else\n#endif\n#ifdef UNUSED\nint b;\n#endif\n" + with_helpers("", "a()") + "#endif\n"
    )
    unit = kept(read(text))
    assert len(re.findall(r"^#\s*if", unit, re.MULTILINE)) == len(re.findall(r"^#\s*endif", unit, re.MULTILINE)) == 3
    assert "UNUSED" not in unit
    assert "not_needed" not in unit


def test_a_static_name_in_two_files_means_each_files_own(read):
    one = new_file(
        "static int helper(void)\n{\n    return 1;\n}\nint public_one(void)\n{\n    return helper();\n}\n",
        "a.c",
    )
    two = new_file(with_helpers("static int helper(void)\n{\n    return 2;\n}", "helper() + public_one()"), "b.c")
    unit = kept(read(one + two))
    assert (
        unit.index("#define helper vfio_verify_0_helper")
        < unit.index("return 1;")
        < unit.index("#undef helper")
        < unit.index("return 2;")
    )


def test_the_functions_own_file_comes_last(read):
    """What it calls in other files is then defined before it."""
    other = new_file("int public_one(void)\n{\n    return 1;\n}\n", "z.c")
    unit = kept(read(new_file(with_helpers("", "public_one()"), "a.c") + other))
    assert unit.index("int public_one(void)") < unit.index("bool subject")


def test_a_static_of_another_file_is_not_seen(read):
    one = new_file("static int helper(void)\n{\n    return 1;\n}\n", "a.c")
    assert "return 1" not in kept(read(one + new_file(with_helpers("", "helper()"), "b.c")))


def test_headers_come_before_the_files_that_use_them(read):
    header = new_file("struct pair {\n    int a, b;\n};\n", "include/z.h")
    unit = kept(read(new_file(with_helpers("", "struct pair p"), "a.c") + header))
    assert unit.index("int a, b") < unit.index("bool subject")


def test_a_header_beside_the_file_is_cut_like_the_file(tmp_path):
    (tmp_path / "local.h").write_text(
        '#ifndef L_H\n#define L_H\n#include "qemu/osdep.h"\n#define LIMIT 3\nstruct unknown_user { Unknown u; };\n#endif\n'
    )
    (tmp_path / "x.c").write_text('#include "local.h"\n' + with_helpers("", "int x = LIMIT"))
    source = read_source(str(tmp_path / "x.c"))
    assert lines_of(source)[str(tmp_path / "local.h"), 4] == "#define LIMIT 3"
    assert "Unknown" not in source.unit
    assert source.text.directory == str(tmp_path)
    assert source.readable == (tmp_path / "x.c", tmp_path / "local.h")


def test_a_header_is_found_from_another_directory_as_the_compiler_finds_it(tmp_path):
    """Beside the header that includes it, else beside the C file. One may be empty."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.h").write_text('#include "b.h"\n#include "c.h"\n#include "empty.h"\n')
    (tmp_path / "sub/b.h").write_text("#define B 1\n")
    (tmp_path / "b.h").write_text("#define B 2\n")
    (tmp_path / "c.h").write_text("#define C 3\n")
    (tmp_path / "empty.h").write_text("")
    (tmp_path / "x.c").write_text('#include "sub/a.h"\n' + with_helpers("", "int x = B + C"))
    assert re.findall("#define [BC] .*", kept(read_source(str(tmp_path / "x.c")))) == ["#define B 1", "#define C 3"]


def test_headers_that_include_each_other_end(tmp_path):
    (tmp_path / "a.h").write_text('#include "b.h"\n#define A B\n')
    (tmp_path / "b.h").write_text('#include "a.h"\n#define B 1\n')
    (tmp_path / "x.c").write_text('#include "a.h"\n' + with_helpers("", "int x = A"))
    assert "#define B 1" in read_source(str(tmp_path / "x.c")).unit


def test_each_name_that_is_kept_is_claimed(read):
    helpers = (
        "static int fun(void);\nstatic int fun(void) { return 1; }\n#define MACRO 1\nstruct tag { int a; };\ntypedef struct tag alias;\n"
        "enum kind { FIRST };\nstatic int variable;\nextern int other;\ntypedef struct VFIODevice VFIODevice;\nstatic int unused;"
    )
    use = "fun(); alias a; enum kind k = FIRST; variable = MACRO + other; VFIODevice *v; struct tag t"
    claims = read(with_helpers(helpers, use)).cut.claims
    assert claims == {"subject", "fun", "MACRO", "tag", "alias", "kind", "FIRST", "variable"}


def test_the_worlds_names_give_way_to_those_of_the_sources(read):
    """Its macros go. What else it has gets another name; but for a struct that the sources complete."""
    helpers = (
        "static int qemu_close(int fd) { return fd; }\n#define ROUND_UP(a, b) (a)\nstruct Error { int a; };\n"
        "enum mine { ERROR_CLASS_GENERIC_ERROR };\nstatic int own;"
    )
    use = "struct Error e; own = ROUND_UP(1, 2) + qemu_close(ERROR_CLASS_GENERIC_ERROR)"
    unit = read(with_helpers(helpers, use)).unit
    assert re.findall(r"^#(?:define|include|undef) .*", unit.split("#line")[0], re.MULTILINE)[3:] == [
        '#include "vfio_verify/system.h"',
        "#define ERROR_CLASS_GENERIC_ERROR vfio_verify_world_ERROR_CLASS_GENERIC_ERROR",
        "#define qemu_close vfio_verify_world_qemu_close",
        '#include "vfio_verify/call.h"',
        '#include "vfio_verify/qemu.h"',
        "#undef ERROR_CLASS_GENERIC_ERROR",
        "#undef qemu_close",
        "#undef ROUND_UP",
    ]


def test_the_worlds_names_are_those_that_a_parser_finds_in_its_headers():
    found: dict[str, set[str]] = {"macro": set(), "other": set()}
    for header in (Path(vfio_verify.__file__).parent / "include/vfio_verify").glob("*.h"):
        if header.name not in ("call.h", "system.h"):
            for item in items.read(preprocess(Fragment(header.name, 1, header.read_text()))).items:
                if item.kind != "undef":
                    found["macro" if item.kind == "macro" else "other"] |= item.identifiers
    own = re.compile("vfio_verify_", re.IGNORECASE)
    names = read_names()
    assert names.macros == {name for name in found["macro"] if not own.match(name)}
    assert names.identifiers == {name for name in found["other"] if not own.match(name)}


def test_a_struct_that_a_macro_of_the_worlds_makes_is_not_the_worlds(read):
    """QLIST_HEAD(name, type) makes a `struct name`."""
    assert "int mine" in read(with_helpers("struct name {\n    int mine;\n};", "struct name n")).unit


def test_structs_and_lists_that_the_world_makes_stay_the_worlds(read):
    helpers = (
        "typedef struct VFIODevice {\n    int fd;\n} VFIODevice;\nstruct RAMBlock {\n    int mine;\n};\n"
        "VFIODeviceList vfio_device_list = { 0 };"
    )
    source = read(with_helpers(helpers, "VFIODevice *v = vfio_device_list.lh_first; struct RAMBlock *b"))
    assert source.cut.claims == {"subject"}


def test_a_look_up_that_the_sources_define_wins_over_the_worlds(read):
    helper = "static bool vfio_device_lookup(struct iovec *v)\n{\n    return !v;\n}"
    assert "vfio_device_lookup" in read(with_helpers(helper, "vfio_device_lookup(iov)")).cut.claims


def test_a_look_up_that_asks_the_devices_backend_is_the_worlds(read):
    """A whole hw/vfio/device.c defines it, by a call table that only QEMU fills."""
    helper = "int vfio_device_get_region_info(VFIODevice *v, int i, struct vfio_region_info **info)\n{\n    return v->io_ops->get(v, i, info);\n}"
    source = read(with_helpers(helper, "vfio_device_get_region_info(0, 0, 0)"))
    assert "io_ops" not in source.unit
    assert source.cut.claims == {"subject"}


def test_the_path_in_a_line_marker_is_escaped(tmp_path):
    path = tmp_path / 'a "b" \\c.c'
    path.write_text(WHOLE)
    assert '\\"b\\" \\\\c.c"' in read_source(str(path)).unit


def test_a_source_is_a_frozen_value(read):
    source = read(WHOLE)
    with pytest.raises(AttributeError):
        source.unit = ""
    assert Path(source.name).name == "input"
