"""Each kind of input that docs/subjects.md lists, by the command that it shows there."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from commands import run
from places import CHECKOUT

pytestmark = pytest.mark.skipif(not shutil.which("git") or not shutil.which("cc"), reason="needs git and a C compiler")

NAME = "vfio_device_mmap_dmabuf"
HEAD = f"bool {NAME}(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
FILES = {
    "hw/vfio/device.c": f"""#include "own.h"

static int before(void)
{{
    return 1;
}}

{HEAD}
{{
    *addr = NULL;
    if (n == 0) {{
        error_setg(errp, "no entries");
        return false;
    }}
    if (!own_check(iov, n, total)) {{
        error_setg(errp, "wrong size");
        return false;
    }}
    error_setg(errp, "not yet");
    return false;
}}
""",
    "include/own.h": "#define OWN_LIMIT 10\nbool own_check(struct iovec *iov, unsigned int n, size_t total);\n",
    "util/own.c": """#include "own.h"
bool own_check(struct iovec *iov, unsigned int n, size_t total)
{
    return n < OWN_LIMIT && iov_size(iov, n) == total;
}
""",
}
WHOLE = f'{HEAD}\n{{\n    error_setg(errp, "%s");\n    return false;\n}}\n'


def new(text: str) -> str:
    lines = text.splitlines()
    return f"--- /dev/null\n+++ b/a.c\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)


def mail(subject: str, diff: str) -> str:
    return f"From: A <a@example.org>\nTo: b@example.org\nSubject: {subject}\n\n{diff}-- \n2\n\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(mail("[PATCH] fetched", new(WHOLE % "x")).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def desk(tmp_path: Path, all_forms: Path) -> Path:
    """A directory of the test's own with all that the commands name."""
    return Path(shutil.copytree(all_forms, tmp_path / "desk", symlinks=True))


@pytest.fixture(scope="module")
def all_forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("forms")

    def git(*arguments: str) -> str:
        names = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", *names, *arguments]
        return subprocess.run(command, cwd=tmp_path / "qemu", check=True, capture_output=True, text=True).stdout

    for name, text in FILES.items():
        path = tmp_path / "qemu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git("init", "-q", "-b", "work")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v10.0.0")
    git("branch", "master")
    path = tmp_path / "qemu/hw/vfio/device.c"
    path.write_text(FILES["hw/vfio/device.c"].replace('"not yet"', '"never"'))
    git("commit", "-qam", "It is never")
    (tmp_path / "fix.patch").write_text(git("diff", "v10.0.0"))
    path.write_text(path.read_text().replace("!own_check(iov, n, total)", "iov_size(iov, n) != total"))
    git("commit", "-qam", "It needs nobody")
    (tmp_path / "helper.c").write_text('#include "limits-of-it.h"\n' + WHOLE.replace('"%s"', '"%d %d", DEPTH, LIMIT'))
    (tmp_path / "include").mkdir()
    (tmp_path / "include/limits-of-it.h").write_text("#define LIMIT 3\n")
    parameters = "(const struct vfio_verify_segment *segments, unsigned int n, size_t size, void **address)"
    (tmp_path / "adapter.c").write_text(
        f"#include <vfio_verify.h>\nint own_map();\nint {NAME}{parameters}\n{{\n    return own_map();\n}}\n"
    )
    library = tmp_path / "library.c"
    library.write_text("int own_map(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libhelper.so", library], check=True)
    (tmp_path / "thread.mbox").write_text(
        mail("[PATCH 1/1] a", new(WHOLE % "one")) + mail("[PATCH v2 1/1] a", new(WHOLE % "two"))
    )
    (tmp_path / "patch.mbox.gz").write_bytes(gzip.compress(mail("[PATCH] a", new(WHOLE % "x")).encode()))
    quoted = "".join(f"> {line}\n" for line in new(WHOLE % "x").splitlines())
    (tmp_path / "reply.eml").write_text(mail("Re: [PATCH] a", quoted))
    page = f"<html><head><title>[PATCH] a</title></head><pre>{new(WHOLE % 'x')}</pre></html>"
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "series").mkdir()
    second = new(WHOLE % "x").replace("--- /dev/null", "--- a/a.c").replace("@@ -0,0 +1,5 @@", "@@ -5,1 +5,2 @@")
    second = re.sub(r"(@@\n).*", "\\1 }\n+/* more */\n", second, flags=re.DOTALL)
    for number, diff in ((1, new(WHOLE % "x")), (2, second)):
        text = mail(f"[PATCH v2 {number}/2] a", diff)
        (tmp_path / f"series/000{number}.patch").write_text(text)
        (tmp_path / f"v2-000{number}.patch").write_text(text)
    return tmp_path


def commands() -> list[str]:
    """The command lines of that section."""
    section = (CHECKOUT / "docs/subjects.md").read_text().partition("## All forms")[2].partition("\n## ")[0]
    return [line.partition("  #")[0].strip() for line in re.findall(r"^(?:git|vfio-verify) .*", section, re.MULTILINE)]


def test_the_docs_show_a_command_for_each_form():
    assert len(commands()) >= 12


@pytest.mark.parametrize("command", commands())
def test_the_command_for_each_form_does_what_it_says(desk, address, command, monkeypatch):
    shell = re.sub(r"https://\S+?/(?=project|qemu-devel)", f"{address}/", command)
    environment = {**os.environ, "VFIO_VERIFY_ARCHIVE": f"{address}/all", "HOME": str(desk)}
    before, _, ours = shell.rpartition("vfio-verify ")
    text = ""
    if before:
        shown = ["bash", "-c", before.rstrip().removesuffix("|")]
        text = subprocess.run(shown, cwd=desk / "qemu", capture_output=True, text=True, check=True).stdout
    arguments = (*shlex.split(ours), "--examples", 1, "--jobs", 1, "--json", "-")
    done = run(*arguments, cwd=desk / "qemu" if before else desk, text=text, env=environment)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["subject"]["function"] == NAME
    assert ("taken: own_check from util/own.c:2" in done.stderr) == ("--explain" in command)
    assert not any("applied with" in note for note in report["notes"])


def check(desk: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("check", *arguments, "--examples", 1, "--jobs", 1, cwd=desk, env={**os.environ, **environment})


def test_the_line_that_reproduces_a_violation_names_all_that_was_given(desk):
    done = check(desk, "fix.patch", "--tree", "qemu@v10.0.0", "-D", "A=b c", "--function", NAME)
    line = next(line for line in done.stdout.splitlines() if "vfio-verify check" in line)
    assert f"check fix.patch --tree qemu@v10.0.0 -D 'A=b c' --function {NAME} --case" in line
    words = shlex.split(line)
    assert check(desk, *words[2:]).returncode == 1
    done = check(desk, "v2-0001.patch", "v2-0002.patch")
    assert "vfio-verify check v2-0001.patch v2-0002.patch --function" in done.stdout


def test_offsets_are_told_in_the_report(desk):
    path = desk / "qemu/hw/vfio/device.c"
    path.write_text("\n\n" + FILES["hw/vfio/device.c"])
    assert "hw/vfio/device.c: hunk 1 applied with offset 2." in check(desk, "fix.patch", "--tree", "qemu").stdout


def test_a_subject_is_checked_without_any_environment(desk):
    command = [sys.executable, "-P", "-m", "vfio_verify", "check", "reply.eml", "--examples", "1", "--jobs", "1"]
    done = subprocess.run(command, cwd=desk, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr


def test_kept_cases_are_replayed_on_a_patch_with_its_tree(desk):
    given = ("fix.patch", "--tree", "qemu@v10.0.0")
    assert check(desk, *given, "--corpus", "kept").returncode == 1
    done = run("replay", "kept", "--jobs", 1, "--subject", *given, cwd=desk)
    assert done.returncode == 1
    done = run("replay", "kept", "--jobs", 1, "--subject", "fix.patch", cwd=desk)
    assert done.returncode == 2
