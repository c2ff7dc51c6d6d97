"""Inputs that nobody meant: each form that the commands read, with a few things in it changed at random.

An input is a value, which its seed and its number make. `write()` puts it into a directory, and `options` are those
that a command is given with it.
"""

from __future__ import annotations

import copy
import difflib
import gzip
import json
import lzma
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

from places import TESTS

HEAD = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
BEFORE = f"""#include "qemu/osdep.h"
#include "own.h"

/* What is before: "{{" or '}}'. */
static int first(const struct iovec *one)
{{
    return one->iov_len > OWN_LIMIT ? 1 : 0;
}}

#ifdef CONFIG_OWN
static void unused(void) {{ while (first(NULL)) {{ }} }}
#else
#define unused() do {{ }} while (0)
#endif

{HEAD}
{{
    OwnState state = {{ .limit = OWN_LIMIT, }};
    unsigned int i;

    *addr = NULL;
    for (i = 0; i < n; i++) {{
        if (first(&iov[i]) && !own_check(&state, iov, n)) {{
            error_setg(errp, "entry %u of %zu bytes", i, iov[i].iov_len);
            return false;
        }}
    }}
    unused();
    error_setg(errp, "not yet");
    return false;
}}
"""
AFTER = BEFORE.replace('"not yet"', '"never, \\"so to say\\""').replace("    *addr = NULL;\n", "")
HEADER = """#ifndef OWN_H
#define OWN_H
#define OWN_LIMIT 10
typedef struct OwnState { int limit; QLIST_ENTRY(OwnState) next; } OwnState;
bool own_check(OwnState *state, struct iovec *iov, unsigned int n);
#endif
"""
OTHER = (
    '#include "own.h"\nbool own_check(OwnState *state, struct iovec *iov, unsigned int n)\n{\n    return n == 1;\n}\n'
)
KCONFIG = "config VFIO\n    bool\n"
MORE_KCONFIG = KCONFIG + "\nconfig OWN\n    bool\n    default y\n"
FLAGS = [
    {"directory": "/", "file": "x.c", "arguments": ["cc", "-DX"]},
    {"directory": ".", "file": "hw/map.c", "command": "cc -Iinclude -I /etc -DOWN='a b' -c hw/map.c"},
]
SECRET = "secret_of_the_users"
"""A word in a file outside of what is given, which nothing may show."""


class Link(NamedTuple):
    target: str


class Pipe(NamedTuple):
    """A FIFO to which nobody writes."""


class Directory(NamedTuple):
    pass


class Huge(NamedTuple):
    """A file of gigabytes, of zeros."""


Content = bytes | Link | Pipe | Directory | Huge
Change = Callable[[random.Random, bytes], bytes]


class Input(NamedTuple):
    form: str
    files: dict[str, Content]
    """By their paths."""
    names: list[str]
    """Those that a command is given."""
    tree: str | None = None
    """A directory with a tree."""
    more: dict[str, Any] = {}  # noqa: RUF012  nobody changes it
    """Further fields of `Given`."""


# ---- the forms ------------------------------------------------------------------------------------------------------


def diff(path: str, before: str | None, after: str | None, *, context: int = 3) -> str:
    old, new = ((text or "").splitlines(keepends=True) for text in (before, after))
    names = ("/dev/null" if before is None else f"a/{path}", "/dev/null" if after is None else f"b/{path}")
    lines = "".join(difflib.unified_diff(old, new, *names, n=context))
    return f"diff --git a/{path} b/{path}\nindex {len(old):010x}..{len(new):010x} 100644\n{lines}"


ADDED = diff("hw/map.c", None, BEFORE) + diff("hw/own.h", None, HEADER) + diff("hw/Kconfig", KCONFIG, MORE_KCONFIG)
WHOLE = diff("hw/map.c", BEFORE, AFTER, context=99)
FOLLOW_UP = diff("hw/map.c", BEFORE, AFTER)


def mail(subject: str, changes: str, date: int = 1, **encoded: str) -> bytes:
    message = EmailMessage()
    for name, value in {
        "From": "Ä Person <a@example.org>",
        "To": "b@example.org",
        "Subject": subject,
        "Date": f"{date:02} Jan 2026 10:00:00 +0000",
        "Message-ID": "<1@example.org>",
    }.items():
        message[name] = value
    message.set_content(f"A message, schön.\n---\n hw/map.c | 9 +\n\n{changes}-- \n2.40.1\n", **encoded)
    return message.as_bytes()


def in_parts(changes: str) -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "a@example.org", "[PATCH] =?utf-8?q?map_=C3=A4?="
    message.set_content("See below.\n")
    message.add_alternative(f"<pre>{changes}</pre>", subtype="html")
    message.add_attachment(changes.encode(), maintype="text", subtype="x-patch", filename="a.patch", cte="base64")
    message.set_boundary("===of-the-parts==")
    message.get_payload(0).set_boundary("===of-the-forms==")
    return message.as_bytes()


def log(*commits: str) -> str:
    head = "commit {0:040x}\nAuthor: A <a@example.org>\nDate:   Thu Jan {0} 10:00:00 2026 +0000\n\n    Title {0}\n\n"
    return "\n".join(head.format(len(commits) - i) + one for i, one in enumerate(commits))


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


def page(changes: str) -> str:
    marked = changes.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<!DOCTYPE html>\n<html><head><title>[PATCH v2] a - Patchwork</title></head><pre>From: A\n\n{marked}</pre>"


def thread() -> bytes:
    """An mbox with two versions."""
    texts = [mail(f"[PATCH v{one}] a", ADDED, one) for one in (5, 6)]
    return b"".join(b"From mboxrd@z Thu Jan  1 00:00:00 1970\n" + text + b"\n" for text in texts)


KEPT = [path.read_bytes() for path in sorted((TESTS / "corpus").glob("*.json"))]
TREE: dict[str, Content] = {
    "tree/hw/map.c": BEFORE.encode(),
    "tree/hw/Kconfig": KCONFIG.encode(),
    "tree/include/own.h": HEADER.encode(),
    "tree/util/own.c": OTHER.encode(),
}
STATE: dict[str, Any] = {
    "schema": "vfio-verify/search@1",
    "part": [0, 1],
    "done": [[0, 4]],
    "seconds": 1.5,
    "layouts": 40,
    "runs": 900,
    "settled": [["ERROR_SET", "newline"]],
    "unconfirmed": [["NO_LEAK", "", 2]],
    "lost": [7],
}


def forms() -> dict[str, Input]:
    """An input of each form, as it should be."""

    def one(name: str, content: bytes | str, **more: Any) -> Input:
        data = content if isinstance(content, bytes) else content.encode()
        return Input("", {name: data}, [name], more=more)

    series = [mail("[PATCH v2 0/2] a", ""), mail("[PATCH v2 1/2] a", ADDED), mail("[PATCH v2 2/2] a", FOLLOW_UP)]
    patches: dict[str, Content] = {f"series/000{i}.patch": text for i, text in enumerate(series)}
    json_page = {"name": "[v2] a", "diff": ADDED, "series": [{"id": 1, "version": 2}], "checks": [1, None, {}]}
    flags = {**TREE, "tree/compile_commands.json": json.dumps(FLAGS).encode()}
    turned_on = FOLLOW_UP + diff("hw/Kconfig", KCONFIG, MORE_KCONFIG)
    found = {
        "C": Input("", {"map.c": BEFORE.encode(), "own.h": HEADER.encode()}, ["map.c"], more={"defines": ("A=1",)}),
        "C with headers": Input(
            "",
            {"map.c": BEFORE.encode(), "include/own.h": HEADER.encode(), "own.c": OTHER.encode()},
            ["map.c", "own.c"],
            more={"directories": ("include",)},
        ),
        "diff": one("a.diff", ADDED),
        "git show -W": one("a.txt", log(WHOLE)),
        "git log -p": one("a.log", log(FOLLOW_UP, ADDED)),
        "mail": one("a.eml", mail("[PATCH] a", ADDED)),
        "base64": one("a.eml", mail("[PATCH] a", ADDED, cte="base64")),
        "quoted-printable": one("a.eml", mail("[PATCH] a", ADDED, cte="quoted-printable")),
        "parts": one("a.eml", in_parts(ADDED)),
        "flowed": one("a.eml", mail("[PATCH] a", ADDED).replace(b"; charset", b"; format=flowed; charset", 1)),
        "reply": one("a.eml", mail("Re: [PATCH] a", quoted(ADDED))),
        "mbox": one("a.mbox", thread(), version=6),
        "versions": one("a.mbox", thread()),
        "JSON": one("a.json", json.dumps(json_page)),
        "HTML": one("a.html", page(ADDED)),
        "folder": Input("", patches, ["series"]),
        "series": Input("", patches, sorted(patches)),
        "tree": Input("", {**TREE, "a.patch": FOLLOW_UP.encode()}, ["a.patch"], "tree"),
        "built tree": Input("", {**flags, "a.patch": turned_on.encode()}, ["a.patch"], "tree"),
        "file of a tree": Input("", TREE, ["tree/hw/map.c"], "tree"),
        "commit": Input("", {**TREE, "a.patch": FOLLOW_UP.encode()}, ["a.patch"], "tree"),
        "case": one("case.json", KEPT[0]),
        "corpus": Input("", {f"corpus/{n}.json": text for n, text in enumerate(KEPT[:3])}, ["corpus"]),
        "state": one("state.json", json.dumps(STATE)),
    }
    return {form: given._replace(form=form) for form, given in found.items()}


# ---- changes of any text --------------------------------------------------------------------------------------------


def _changes_bytes(rng: random.Random, data: bytes) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.choice((0, 1, 1, 2, 8, 40, 400))
    found = data[at : at + length]
    put = rng.choice(
        (
            b"",
            found * 2,
            bytes(byte ^ 1 << rng.randrange(8) for byte in found),
            rng.randbytes(length),
            rng.choice(
                (b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\x1b[31m", b"\x0c", b"\xe2\x80\xae")
            ),
        )
    )
    return data[:at] + put + data[at + length :]


def _changes_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    a, b = (rng.randrange(len(lines)) for _ in range(2))
    first, last = min(a, b), max(a, b)
    how = rng.randrange(9)
    if how == 0:
        del lines[a]
    elif how == 1:
        del lines[first : min(last, first + 20)]
    elif how == 2:
        lines[a], lines[b] = lines[b], lines[a]
    elif how == 3:
        lines[a:a] = lines[first:last][:40] * rng.choice((1, 1, 2, 30))
    elif how == 4:
        lines[a] = lines[a][: rng.randrange(len(lines[a]) + 1)]
    elif how == 5:
        lines[a:] = []
    elif how == 6:
        lines[a] += rng.choice((b"x", b" ", b"(", b"\t", b"\\", b"> ")) * rng.choice((1, 80, 100_000))
    elif how == 7:
        lines[a : a + 1] = [lines[a][:5], lines[a][5:]]
    else:
        return rng.choice((b"\r\n", b"\r", b"\n\n", b"\r\r\n")).join(lines)
    return b"\n".join(lines)


def _is_cut_off(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


# ---- changes of C ---------------------------------------------------------------------------------------------------

_TOKEN = re.compile(rb"\w+|\s+|.", re.DOTALL)
_TOKENS = (
    *(b"{", b"}", b"(", b")", b"[", b"]", b";", b",", b"*", b"=", b"\\", b'"', b"'", b"/*", b"*/", b"//", b"#", b"##"),
    *(b"#if 0\n", b"#if 1\n", b"#else\n", b"#elif X\n", b"#endif\n", b"#ifdef A\n", b"??=", b"%:", b"<%", b"\\\n"),
    *(b'#include "own.h"\n', b'#include "../secret.h"\n', b'#include "/etc/passwd"\n', b"#include <stdio.h>\n"),
    *(b'#include "map.c"\n', b"#include OWN\n", b'#include "pipe.h"\n', b"#define f(x) f(f(x))\n", b"#define bool\n"),
    *(b"#undef OWN_LIMIT\n", b"#pragma once\n", b'#line 7 "x.c"\n', b"_Pragma(\"GCC error\")", b"__attribute__((",),
    *(b"static ", b"extern ", b"typedef ", b"struct ", b"union { ", b"enum ", b"const ", b"return ", b"goto "),
    *(b"_Generic(", b"typeof(", b"sizeof ", b'asm(".incbin \\"/etc/passwd\\"");\n', b"subject", b"OwnState", b"first"),
    *(b"QLIST_HEAD(, OwnState) list;\n", b"namespace x {\n", b"fn main() -> u8 {\n", b"0x1p-3", b"\xc3\xa4", b"..."),
)  # fmt: skip


def _changes_tokens(rng: random.Random, data: bytes) -> bytes:
    tokens = _TOKEN.findall(data) or [b""]
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        how = rng.randrange(6)
        if how == 0:
            tokens[at] = b""
        elif how == 1:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif how == 2:
            tokens[at] = rng.choice(_TOKENS)
        elif how == 3:
            tokens[at] += rng.choice(_TOKENS)
        elif how == 4:
            tokens[at] += tokens[other]
        else:
            tokens[at] *= rng.choice((0, 2, 3, 300))
    return b"".join(tokens)


def _is_nested(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    brackets = (b"(", b"{", b"[", b"((int)", b"#if A\n", b"struct {", b"f(", b"if (1) ", b"/*", b")", b"}")
    token = rng.choice((*brackets, b"*", b"x", b"\n"))
    return data[:at] + token * rng.choice((10, 1000, 20_000)) + data[at:]


# ---- changes of diffs -----------------------------------------------------------------------------------------------

_HUNK = re.compile(rb"^([> +]*@@ )-(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_NAMED = re.compile(rb"^([> +]*)((?:---|\+\+\+) |diff --git |index |rename \w+ )([^\n]*)", re.MULTILINE)
_PATHS = (
    *(b"a/../../x.c", b"b/../../x.c", b"/etc/passwd", b"/dev/null", b"a/../secret.c", b"a//", b"", b"a/", b"."),
    *(b'"b/\\303\\244.c"', b'"b/\\000.c"', b"a/hw/map.c", b"b/hw/map.c\t2026-01-01", b"hw/map.c", b"b/hw/other.c"),
    *(b"a/" + b"d/" * 3000 + b"x.c", b"b/" + b"x" * 5000 + b".c", b"b/a b.c", b"b/\xff.c", b"b/x.rs", b"b/-rf.c"),
    *(b"b/map.c\0x", b"b/link.c", b"a/include/own.h", b"-", b"b/.git/config", b"0000000000..0000000000"),
)
_NUMBERS = (b"0", b"1", b"2", b"7", b"99", b"4294967296", b"18446744073709551615", b"9" * 5000, b"-1", b"x", b"")


def _changes_hunk(rng: random.Random, data: bytes) -> bytes:
    found = list(_HUNK.finditer(data))
    if not found:
        return data
    hunk = rng.choice(found)
    numbers = [hunk[i] or b"1" for i in (2, 3, 4, 5)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        numbers[rng.randrange(4)] = rng.choice((*_NUMBERS, b"%d" % rng.randrange(60)))
    new = hunk[1] + b"-%b,%b +%b,%b @@" % tuple(numbers)
    if rng.random() < 0.1:
        new = rng.choice((b"@@@ -1 -1 +1 @@@", b"@@", new * 2, new.replace(b"@@", b"@"), b"GIT binary patch"))
    return data[: hunk.start()] + new + data[hunk.end() :]


def _changes_paths(rng: random.Random, data: bytes) -> bytes:
    found = list(_NAMED.finditer(data))
    if not found:
        return data
    path = rng.choice(_PATHS)
    for named in reversed(rng.sample(found, rng.randint(1, min(3, len(found))))):
        how = rng.randrange(4)
        new = named[1] + named[2] + path if how else rng.choice((b"", b"--- ", b"+++ ", b"rename from x.c\n"))
        data = data[: named.start()] + new + data[named.end() :]
    return data


def _changes_signs(rng: random.Random, data: bytes) -> bytes:
    """The first character of some lines."""
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 3, 10))):
        at = rng.randrange(len(lines))
        lines[at] = rng.choice((b"+", b"-", b" ", b"\\", b"", b"@@ ", b"> ", b"-- ")) + lines[at][1:]
    return b"\n".join(lines)


# ---- changes of mails and pages -------------------------------------------------------------------------------------

_HEADER = re.compile(rb"^([A-Z][\w-]*):([^\n]*)$", re.MULTILINE)
_VALUES = (
    *(b"", b" ", b"=?utf-8?b?////?=", b"=?x?q?=00?=", b"=?utf-8?q?" + b"=41" * 3000, b"\xff", b"a" * 9999),
    *(b"text/plain; charset=no-such", b"text/plain; charset=utf-7", b"text/plain; charset=idna", b"text/; charset="),
    *(b"text/plain; charset*=utf-8''%ff", b"text/plain; charset=utf-16", b"text/plain; format=flowed; delsp=yes"),
    *(b"text/html", b"message/rfc822", b"multipart/mixed", b'multipart/x; boundary="', b"multipart/x; boundary=x"),
    *(b"base64", b"quoted-printable", b"uuencode", b"x-uuencode", b"8bit", b"7bit", b"gzip", b"/", b"text/", b";;;="),
    *(b"[PATCH 1/0] a", b"[PATCH v99999999999999999999 1/1] a", b"Re: Re: [PATCH] a", b"[PATCH v6 2/2] b", b"["),
    *(b"Fri, 99 Jan 0000 25:61:61 +9999", b"1 Jan 99999999 00:00 +0000", b"Mon, 1 Jan 1 00:00:00 -2400", b"\t(((("),
    *(b'a" <b@c', b"(" * 3000, b"a@[", b"=?us-ascii?q?a", b"attachment; filename*0=a; filename*1*=%zz", b"\r\n x"),
)  # fmt: skip


def _changes_headers(rng: random.Random, data: bytes) -> bytes:
    found = list(_HEADER.finditer(data))
    if not found:
        return data
    header = rng.choice(found)
    name = rng.choice((header[1], b"Subject", b"Date", b"From", b"Content-Type", b"Content-Transfer-Encoding", b"X"))
    value = rng.choice((header[2], *_VALUES))
    new = rng.choice((b"", name + b":" + value, header[0] + b"\n" + name + b": " + value, name, b" " + value))
    return data[: header.start()] + new + data[header.end() :]


def _changes_boundaries(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"^(?:--=|From )[^\n]*\n", data, re.MULTILINE)) or list(re.finditer(rb"\n\n", data))
    if not found:
        return data
    line = rng.choice(found)
    new = rng.choice((b"", line[0] * 2, line[0].strip() + b"--\n", b"From \n", b"From x\n", b"--\n", b"\n" + line[0]))
    return data[: line.start()] + new + data[line.end() :]


def _changes_markup(rng: random.Random, data: bytes) -> bytes:
    tags = (
        b"<pre>",
        b"</pre>",
        b"<!--",
        b"<![CDATA[",
        b"<title>",
        b"&#x110000;",
        b"&#" + b"9" * 5000 + b";",
        b"<!x[",
        b"<?",
    )
    at = rng.choice([match.start() for match in re.finditer(rb"[<&]", data)] or [0])
    return data[:at] + rng.choice((*tags, *tags)) * rng.choice((1, 1, 3, 3000)) + data[at + rng.randrange(6) :]


# ---- changes of JSON ------------------------------------------------------------------------------------------------

_JUNK = (
    *(None, True, -1, 0, 1, 3, 4096, 4097, 2**31, 2**40, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400, 0.5, 1e300),
    *("", "x", "\x1b[31m\n::error::", [], {}, [[]], "\ud800", "\0", "late", "mmap", "vfio-verify/case@1", "x" * 99_999),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All paths into a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(value: Any, path: tuple[Any, ...], how: str, junk: Any) -> Any:
    """A copy in which what stands at a path is another, is gone, or stands there many times."""
    if not path:
        return junk if how == "replace" else value
    value = copy.deepcopy(value)
    owner = value
    for key in path[:-1]:
        owner = owner[key]
    key = path[-1]
    if how == "replace":
        owner[key] = junk
    elif how == "remove":
        del owner[key]
    elif isinstance(owner, list):
        owner[key:key] = [copy.deepcopy(owner[key])] * (junk if type(junk) is int and 0 < junk < 300 else 2)
    else:
        owner[f"{key}x"] = owner[key]
    return value


def _changes_nodes(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _changes_bytes(rng, data)
    path = rng.choice(list(places(value)))
    value = changed(value, path, rng.choice(("replace", "replace", "remove", "repeat")), rng.choice(_JUNK))
    text = json.dumps(value)
    if rng.random() < 0.1:
        at = rng.randrange(len(text) + 1)
        token = rng.choice(("[", '{"a":', "NaN", "-", '"', "1e999", "\\u", "9" * 5000))
        text = text[:at] + token * rng.choice((1, 5000)) + text[at:]
    return text.encode("utf-8", "surrogatepass")


# ---- changes of files, and of what is given with them ---------------------------------------------------------------


def _changes_files(rng: random.Random, given: Input) -> Input:
    """Another kind of file in place of one, or beside it."""
    files = dict(given.files)
    path = rng.choice(sorted(files))
    up = "../" * (path.count("/") + 1)
    put: Content = rng.choice(
        (
            Link(f"{up}secret.c"),
            Link(os.path.basename(path)),
            Link("."),
            Link(".."),
            Link("nowhere"),
            Link("/dev/full"),
            Link("/dev/zero"),
            Link("/proc/self/environ"),
            Pipe(),
            Directory(),
            Huge(),
            b"",
        )
    )
    beside = rng.choice(
        ("link.c", "pipe.h", "a b.c", "-x.c", "x\n.c", "\udcff.c", "own.h", ".git", "0000.patch", "0.json")
    )
    if rng.random() < 0.4 or (isinstance(put, Pipe) and path in given.names):
        path = os.path.join(os.path.dirname(path), beside)
    if isinstance(put, Pipe) and path in given.names:
        return given  # whoever names a pipe waits for it
    if rng.random() < 0.2 and len(files) > 1:
        files.pop(path, None)
    else:
        files[path] = put
    return given._replace(files=files)


def _changes_options(rng: random.Random, given: Input) -> Input:
    name = rng.choice(("defines", "directories", "version", "tree"))
    texts = ("", "x", "A=\n", "A", "OWN_LIMIT=(", "-", ".", "..", "tree", "a@b", "tree@", "tree@-x", "x" * 5000, "/dev")
    if name == "tree":
        return given._replace(tree=rng.choice(texts))
    value = rng.choice((1, 2, 5, 6, 7, 10**30)) if name == "version" else (rng.choice(texts),)
    return given._replace(more={**given.more, name: value})


_ANY: tuple[Change, ...] = (_changes_bytes, _changes_lines, _changes_lines, _is_cut_off)
_OF_C: tuple[Change, ...] = (_changes_tokens, _changes_tokens, _changes_tokens, _is_nested)
_OF_DIFF: tuple[Change, ...] = (_changes_hunk, _changes_paths, _changes_signs, _changes_tokens)
_OF_MAIL: tuple[Change, ...] = (_changes_headers, _changes_headers, _changes_boundaries)
_BY_SUFFIX: dict[str, tuple[Change, ...]] = {
    ".c": _OF_C,
    ".h": _OF_C,
    ".json": (_changes_nodes, _changes_nodes, _changes_nodes),
    ".html": (*_OF_DIFF, _changes_markup, _changes_markup),
    ".eml": (*_OF_DIFF, *_OF_MAIL),
    ".mbox": (*_OF_DIFF, *_OF_MAIL),
    ".patch": (*_OF_DIFF, *_OF_MAIL),
}


def _packed(rng: random.Random, data: bytes) -> bytes:
    """As gzip, xz or UTF-16 have it, and perhaps damaged there."""
    how = rng.randrange(4)
    if how == 0:
        packed = gzip.compress(data, 1)
    elif how == 1:
        packed = lzma.compress(data, preset=0)
    else:
        text = data.decode("utf-8", "replace")
        packed = text.encode("utf-16") if how == 2 else b"\xfe\xff" + text.encode("utf-16-be")
    return rng.choice(_ANY[:1] + _ANY[3:])(rng, packed) if rng.random() < 0.5 else packed


FORMS = forms()


def mutated(seed: int, number: int, only: Sequence[str] = tuple(FORMS)) -> Input:
    """The input of this number, of one of these forms."""
    rng = random.Random(f"{seed}/{number}")
    given = FORMS[rng.choice(only)]
    files = dict(given.files)
    if given.form in ("case", "corpus"):
        files = {path: rng.choice(KEPT) for path in files}
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        path = rng.choice(sorted(files))
        data = files[path]
        assert isinstance(data, bytes)
        files[path] = rng.choice((*_ANY, *_BY_SUFFIX.get(os.path.splitext(path)[1], _OF_DIFF) * 2))(rng, data)
    if rng.random() < 0.1:
        path = rng.choice(sorted(files))
        files[path] = _packed(rng, bytes(files[path]))
    given = given._replace(files=files)
    if given.form != "state" and rng.random() < (0.3 if len(files) > 1 else 0.05):
        given = _changes_files(rng, given)
    if rng.random() < 0.05:
        given = _changes_options(rng, given)
    return given


def write(given: Input, place: Path) -> None:
    """Write the files of an input below a directory, which holds nothing but them. Beside it is a secret."""
    for path, content in given.files.items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif isinstance(content, Link):
            file.symlink_to(content.target)
        elif isinstance(content, Pipe):
            os.mkfifo(file)
        elif isinstance(content, Directory):
            file.mkdir()
        else:
            with file.open("wb") as huge:
                huge.truncate(3 << 30)
