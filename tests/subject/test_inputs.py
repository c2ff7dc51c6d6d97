"""What reviewers hold in their hands: encodings, wrappings, quotes, logs, folders. Each is the same patch."""

# ruff: noqa: E501  a C text on one line shows what it is

from __future__ import annotations

import gzip
import html
import io
import lzma
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_verify.errors import InputError
from vfio_verify.subject.source import Given, Source, read_source

HEAD = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
LONG = '    error_setg(errp, "a message that is longer than what a mailer leaves on one line, about %u entries", n);'


def function(answer: str = "false") -> str:
    return f"{HEAD}\n{{\n    *addr = NULL;\n\n{LONG}\n    return {answer};\n}}\n"


def added(text: str, path: str = "hw/vfio/new.c", new: str = "1111111111") -> str:
    lines = text.removesuffix("\n").split("\n")
    return (
        f"diff --git a/{path} b/{path}\nnew file mode 100644\nindex 0000000000..{new}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    )


def changed(before: str, after: str, hashes: str = "1111111111..2222222222") -> str:
    """Another answer of `function()`."""
    return (
        f"diff --git a/hw/vfio/new.c b/hw/vfio/new.c\nindex {hashes} 100644\n--- a/hw/vfio/new.c\n+++ b/hw/vfio/new.c\n"
        f"@@ -4,4 +4,4 @@\n \n {LONG}\n-    return {before};\n+    return {after};\n }}\n"
    )


def mail(diff: str, subject: str = "[PATCH] map it", more: str = "", kind: str = "text/plain; charset=utf-8") -> str:
    return (
        f"From: A Person <a@example.org>\nTo: b@example.org\nSubject: {subject}\nContent-Type: {kind}\n{more}\n"
        f"A message.\n---\n one.c | 7 +++\n 1 file changed, {diff.count(chr(10) + '+') - 1} insertions(+)\n\n{diff}-- \n2.40.1\n\n"
    )


@pytest.fixture
def read(tmp_path):
    def read(content: str | bytes, given: Given = Given()) -> Source:  # noqa: B008
        path = tmp_path / "input"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_source(str(path), given=given)

    return read


def text_of(source: Source) -> str:
    item = source.target.item
    return item.source.text[item.start : item.end] + "\n"


# ---- encodings and wrappings -------------------------------------------------------------------------------

PLAIN = added(function())


def coloured(diff: str) -> str:
    """As `git --color=always` prints it."""
    colours = {
        "+": "\x1b[32m+\x1b[m\x1b[32m{}\x1b[m",
        "@": "\x1b[36m@{}\x1b[m",
        "d": "\x1b[1md{}\x1b[m",
        "-": "\x1b[1m-{}\x1b[m",
    }
    return "\n".join(colours.get(line[:1], line[:1] + "{}").format(line[1:]) for line in diff.split("\n"))


def flowed(text: str) -> str:
    """As a mailer writes format=flowed: long lines broken at a space, and a space before those that begin with one."""
    lines: list[str] = []
    for line in text.split("\n"):
        stuffed = " " + line if line.startswith((" ", "From", ">")) else line
        if line == "-- " or len(stuffed) < 72:
            lines.append(stuffed.rstrip() if line != "-- " else line)
            continue
        at = stuffed.rindex(" ", 0, 72) + 1
        lines += [stuffed[:at], stuffed[at:]]
    return "\n".join(lines)


def flowed_mail() -> str:
    head, body = mail(PLAIN, kind="text/plain; charset=utf-8; format=flowed").split("\n\n", 1)
    return head + "\n\n" + flowed(body)


def page(title: str, *pieces: str) -> str:
    written = "".join(f'<pre class="content">{piece}</pre>\n<p>and more</p>\n' for piece in pieces)
    return f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>\n{written}</body></html>\n"


def marked(diff: str) -> str:
    """A diff as archives mark it up."""
    return "\n".join(
        f'<span class="add">{html.escape(line)}</span>' if line.startswith("+") else html.escape(line, quote=False)
        for line in diff.split("\n")
    )


WRAPPED: dict[str, tuple[str | bytes, str | None]] = {
    "gzip": (gzip.compress(PLAIN.encode()), None),
    "two gzip members": (gzip.compress(PLAIN[:100].encode()) + gzip.compress(PLAIN[100:].encode()), None),
    "xz": (lzma.compress(PLAIN.encode()), None),
    "UTF-16, little end first": (b"\xff\xfe" + PLAIN.replace("\n", "\r\n").encode("utf-16-le"), None),
    "UTF-16, big end first": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), None),
    "colours": (coloured(PLAIN), None),
    "colours of git show": (
        "\x1b[33mcommit 0123456789abcdef\x1b[m\nAuthor: A\n\n    A title\n\n" + coloured(PLAIN),
        "A title",
    ),
    "format=flowed": (flowed_mail(), "[PATCH] map it"),
    "called flowed and not wrapped": (mail(PLAIN, kind="text/plain; format=flowed"), "[PATCH] map it"),
    "page of Patchwork": (
        page("[v2] map it - Patchwork", html.escape("A <message>.\n---\n") + marked(PLAIN)),
        "[v2] map it",
    ),
    "page of an archive": (
        page(
            "[PATCH v2] map it - A Person",
            "From: A\n\n" + marked(PLAIN),
            "&gt; " + marked(PLAIN).replace("\n", "\n&gt; "),
        ),
        "[PATCH v2] map it",
    ),
    "thread of an archive": (
        page("a thread", "* [PATCH v3] map it\n@ 2026-01-01 A\n\n" + marked(PLAIN)),
        "[PATCH v3] map it",
    ),
    "reply": (
        "From: B <b@example.org>\nSubject: Re: [PATCH] map it\n\nOn Monday A wrote:\n> A message.\n>\n"
        + "".join(f"> {line}".rstrip() + "\n" for line in PLAIN.splitlines()[:9])
        + "\nThis is odd.\n\n"
        + "".join(f"> {line}".rstrip() + "\n" for line in PLAIN.splitlines()[9:]),
        "[PATCH] map it",
    ),
    "reply to a reply": (
        "From: C <c@example.org>\nSubject: Re: [PATCH] map it\n\n>> A message.\n>>\n"
        + "".join(f">> {line}\n" for line in PLAIN.splitlines()),
        "[PATCH] map it",
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_patch_is_read_however_it_is_wrapped(read, name):
    content, title = WRAPPED[name]
    source = read(content)
    assert (text_of(source), source.title) == (function(), title)


QUOTED = "From: B <b@example.org>\nSubject: Re: [PATCH] map it\n\n"
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "quoted in part": (
        QUOTED + "".join(f"> {line}\n" for line in [*PLAIN.splitlines()[:8], *PLAIN.splitlines()[10:]]),
        "only quotes a patch, and not all of it",
    ),
    "a hunk left out of a quote": (
        QUOTED + "> 1 file changed, 70 insertions(+)\n" + "".join(f"> {line}\n" for line in PLAIN.splitlines()),
        "only quotes a patch, and not all of it",
    ),
    "gzip cut off": (gzip.compress(PLAIN.encode())[:-20], "cannot be unpacked"),
    "broken xz": (lzma.compress(PLAIN.encode())[:30] + b"x" * 99, "cannot be unpacked"),
    "gzip of more than is read": (gzip.compress(bytes(17 << 20), 1), "unpacked, is larger than 16 MiB"),
    "xz of more than is read": (lzma.compress(bytes(17 << 20), preset=0), "unpacked, is larger than 16 MiB"),
    "a page with a number that is none": (page("&#" + "9" * 5000 + ";", "x"), "cannot be read as a web page: line 2, "),
    "a page with a section that is none": (page("x", "<![x y"), "cannot be read as a web page: line 3, "),
    "a header without end": (mail(PLAIN, kind="((" * 3000), "the headers of the mail cannot be read: "),
    "a long header": (
        mail(PLAIN, kind="text/plain; " + "> " * 9999),
        "the headers of the mail cannot be read: Content-Type has 20,",
    ),
    "a header without end in an mbox": (
        mail(PLAIN, more="Date: Thu, 1 Jan 2026 10:00:00 +0000\n") + mail(PLAIN, kind="((" * 3000, more="Date: x\n"),
        "the headers of mail 2 cannot be read: ",
    ),
    "a page without a diff": (page("x", "nothing"), "HTML without a diff"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_whole_is_refused_with_its_reason(read, name):
    content, reason = REFUSED[name]
    with pytest.raises(InputError, match=re.escape(reason)):
        read(content)


@given(st.data())
def test_no_mutilated_input_ends_in_a_traceback(tmp_path_factory, data):
    """Bytes are taken out of each form, or others put in."""
    content = data.draw(st.sampled_from([one for one, _ in WRAPPED.values()]))
    whole = content if isinstance(content, bytes) else content.encode()
    at, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 40))
    broken = whole[:at] + data.draw(st.binary(max_size=20)) + whole[at + length :]
    path = tmp_path_factory.mktemp("broken") / "input"
    path.write_bytes(broken)
    try:
        read_source(str(path), "subject")
    except InputError as error:
        assert str(error)  # noqa: PT017  some are read, most are not


# ---- order and versions -------------------------------------------------------------------------------------


def test_a_log_which_has_the_newest_first_is_applied_from_the_oldest(tmp_path, read):
    git = git_in(tmp_path / "repository")
    for answer in ("one()", "two()", "three()"):
        (tmp_path / "repository/a.c").write_text(function(answer))
        git("add", ".")
        git("commit", "-qm", f"It is {answer}")
    for order in ([], ["--reverse"]):
        for form in ([], ["--date=iso"], ["--date=raw"], ["--abbrev=5"]):
            source = read(git("log", "-p", *order, *form))
            assert "return three()" in text_of(source), (order, form)
    assert read(git("log", "-p", "-1", "-W")).title == "It is three()"
    assert "return three()" in text_of(read(git("format-patch", "--root", "--stdout", "-N", "HEAD")))


def git_in(directory: Path):
    directory.mkdir()

    def git(*arguments: str) -> str:
        names = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null")
        command = ["git", "-C", str(directory), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    return git


def log_of(*commits: str) -> str:
    return "".join(f"commit {i}23456789a\n\n    Change {i}\n\n{commit}\n" for i, commit in enumerate(commits, 1))


def test_a_log_that_does_not_tell_its_order_is_refused(read):
    hidden = [re.sub("index .*\n", "", one) for one in (changed("a", "b"), added(function("a")))]
    with pytest.raises(InputError, match="does not tell the order of its commits"):
        read(log_of(*hidden))
    assert "return b" in text_of(read(log_of(changed("a", "b"), added(function("a")))))


def test_diffs_written_one_after_the_other_with_the_newest_first_are_refused(read):
    with pytest.raises(InputError, match="its patches are not in order"):
        read(changed("a", "b") + added(function("a")))


VERSIONS = "".join(
    mail(added(function(f"v{version}()")), f"[PATCH{prefix} 1/1] map it")
    for version, prefix in ((1, ""), (3, " RFC v3"), (2, "v2"))
)


def test_several_versions_are_refused_until_one_is_chosen(read):
    with pytest.raises(InputError, match=r"several versions of a series \(v1, v2, v3\); choose one with --version N"):
        read(VERSIONS)
    for version in (1, 2, 3):
        assert f"return v{version}()" in text_of(read(VERSIONS, Given(version=version)))
    with pytest.raises(InputError, match=r"no version 4 of a series \(versions: v1, v2, v3\)"):
        read(VERSIONS, Given(version=4))


def test_two_series_of_one_version_are_refused(read):
    with pytest.raises(InputError, match=r"several series: both `\[PATCH 1/1\] a` and `\[PATCH 1/1\] b`"):
        read(mail(added(function("a")), "[PATCH 1/1] a") + mail(added(function("b"), "b.c"), "[PATCH 1/1] b"))


def test_of_a_patch_that_was_sent_again_the_later_is_taken(read):
    early, late = (f"Date: Mon, {day} Nov 2026 10:00:00 +0000\n" for day in (16, 23))
    later = mail(added(function("new()")), "[PATCH RESEND 1/1] a", late)
    assert "return new()" in text_of(read(later + mail(added(function("old()")), "[PATCH 1/1] a", early)))


def test_mails_without_a_line_between_them_are_a_series(read):
    source = read(mail(changed("a", "b"), "[PATCH 2/2] then") + mail(added(function("a")), "[PATCH 1/2] first"))
    assert "return b" in text_of(source)
    assert source.title == "[PATCH 1/2] first"


def test_the_author_in_a_patch_begins_no_mail(read):
    inside = mail(PLAIN).replace("A message.", "From: C <c@example.org>\n\nA message.")
    assert text_of(read(inside)) == function()


def test_a_folder_or_several_files_are_one_series(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "0000-cover.patch").write_text(mail("", "[PATCH 0/2] cover"))
    (folder / "0001-first.patch").write_text(mail(added(function("a")), "[PATCH 1/2] first"))
    (folder / "0002-then.patch").write_text(mail(changed("a", "b"), "[PATCH 2/2] then"))
    (folder / ".hidden.patch").write_text("not read")
    names = sorted(str(path) for path in folder.glob("*.patch") if path.name[0] != ".")
    for named in (str(folder), names, names[::-1]):
        assert "return b" in text_of(read_source(named)), named
    with pytest.raises(InputError, match="no such file"):
        read_source([*names, str(folder / "0003.patch")])


def test_several_diffs_without_numbers_are_applied_as_they_are_given(tmp_path):
    """Unless their hashes say that one was made on the other."""
    hidden = [re.sub("index .*\n", "", one) for one in (added(function("a")), changed("a", "b"), changed("b", "c"))]
    for number, text in enumerate(hidden):
        (tmp_path / f"{9 + number}.diff").write_text(text)
    assert "return c" in text_of(read_source(str(tmp_path)))
    hashes = (changed("b", "c", "3333333..4444444"), added(function("a")), changed("a", "b", "1111111..3333333"))
    for number, text in enumerate(hashes):
        (tmp_path / f"{9 + number}.diff").write_text(text)
    assert "return c" in text_of(read_source(str(tmp_path)))


def test_several_c_files_are_one_subject(tmp_path):
    (tmp_path / "a.c").write_text("bool helper(int n)\n{\n    return n;\n}\n")
    (tmp_path / "b.c").write_text("bool helper(int n);\n" + function("helper(n)"))
    source = read_source([str(tmp_path / "a.c"), str(tmp_path / "b.c")])
    assert "return n;" in source.unit


def test_a_c_file_among_patches_is_not_passed_over(tmp_path):
    (tmp_path / "a.patch").write_text(PLAIN)
    (tmp_path / "b.c").write_text(function())
    with pytest.raises(InputError, match=r"b.c is no patch, as others are; --tree DIR"):
        read_source([str(tmp_path / "a.patch"), str(tmp_path / "b.c")])
    (tmp_path / "notes.txt").write_text("These are the patches.\n")
    assert text_of(read_source(str(tmp_path))) == function()


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "<a@b.org", "https://"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(InputError):
        read_source(name)
    with pytest.raises(InputError):
        read_source("-", given=Given(tree=name))


def test_a_folder_that_is_no_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a directory without patches"):
        read_source(str(tmp_path))
    (tmp_path / ".git").mkdir()
    with pytest.raises(InputError, match=r"is a source tree; give it as --tree .*, and a patch or C file as SUBJECT"):
        read_source(str(tmp_path))


def test_standard_input_may_be_packed(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(PLAIN.encode()))))
    assert text_of(read_source("-")) == function()


# ---- git diff -W ---------------------------------------------------------------------------------------------

AROUND = "static int before(void)\n{\n    return 1;\n}\n\n/**\n * Maps it { or not.\n */\n"


@pytest.mark.parametrize("line", ["*addr = NULL;", "return false;", "size_t total", "error_setg("])
@pytest.mark.parametrize("before", ["", AROUND, AROUND.replace("\n\n/**", "\n/*") + "/* more */\n"])
def test_a_hunk_of_the_whole_function_is_judged(tmp_path, read, line, before):
    git = git_in(tmp_path / "repository")
    path = tmp_path / "repository/a.c"
    new = before + function() + "\nstatic int after(void)\n{\n    return 2;\n}\n"
    path.write_text(new.replace(line, line + " /* old */", 1))
    git("add", ".")
    git("commit", "-qm", "one")
    path.write_text(new)
    source = read(git("diff", "-W"))
    assert text_of(source) == function()
    assert source.target.item.line == 1 + before.count("\n")
