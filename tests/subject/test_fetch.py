"""What lies at an address, on a server of this machine."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vfio_verify.errors import InputError
from vfio_verify.subject import fetch
from vfio_verify.subject.source import read_source

HEAD = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
PATCH = (
    "From: A <a@example.org>\nSubject: [PATCH] map it\n\n--- /dev/null\n+++ b/a.c\n@@ -0,0 +1,4 @@\n"
    f"+{HEAD}\n+{{\n+    return false;\n+}}\n"
).encode()
ENDLESS = {
    "/silent": "does not answer",
    "/head": "did not end within 1 seconds",
    "/chunk": "did not end within 1 seconds",
    "/slow": "did not end within 1 seconds",
}
PLACES = {
    "/project/qemu/patch/1-2-a@b.org/mbox/": PATCH,
    "/patch/17/mbox/": PATCH,
    "/series/9/mbox/": PATCH,
    "/qemu-devel/1-2-a@b.org/raw": PATCH,
    "/all/1-2-a@b.org/raw": PATCH,
    "/plain.patch": PATCH,
    "/qemu-devel/1-2-a@b.org/t.mbox.gz": gzip.compress(PATCH),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            for _ in range(20):
                self.wfile.write(b"x" * (1 << 20))
        elif self.path in ENDLESS:
            if self.path != "/silent":
                self.send_response(200)
            if self.path == "/chunk":
                self.send_header("Transfer-Encoding", "chunked")
            if self.path == "/head":
                self.flush_headers()
            elif self.path != "/silent":
                self.end_headers()
            while not self.server.is_over.wait(0.05):
                if self.path != "/silent":
                    self.wfile.write(b"0")
        elif self.path in PLACES:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PLACES[self.path])
        else:
            self.send_error(404)

    def log_message(self, *_arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    is_over = threading.Event()

    def handle_error(self, *_arguments: object) -> None:
        pass  # who asked has gone


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.is_over.clear()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.is_over.set()
        running.shutdown()


PAGES = (
    "/project/qemu/patch/1-2-a@b.org/",
    "/project/qemu/patch/1-2-a@b.org/mbox/",
    "/patch/17/",
    "/project/qemu/list/?series=9&state=*",
    "/qemu-devel/1-2-a@b.org/",
    "/qemu-devel/1-2-a@b.org/raw",
    "/plain.patch",
    "/qemu-devel/1-2-a@b.org/t.mbox.gz",
)


@pytest.mark.parametrize("page", PAGES)
def test_the_address_of_a_patchs_page_is_as_good_as_its_mail(server, page):
    source = read_source(server + page)
    assert (source.target.name, source.title, source.name) == ("subject", "[PATCH] map it", server + page)


@pytest.mark.parametrize("written", ["1-2-a@b.org", "<1-2-a@b.org>"])
def test_a_message_id_is_looked_for_in_an_archive(server, monkeypatch, written):
    monkeypatch.setenv("VFIO_VERIFY_ARCHIVE", f"{server}/all/")
    assert read_source(written).title == "[PATCH] map it"


def test_a_file_whose_name_looks_like_a_message_id_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b.org").write_bytes(PATCH)
    assert read_source("a@b.org").title == "[PATCH] map it"


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_a_redirect_to_another_scheme_is_refused(server, where):
    with pytest.raises(InputError, match=r"another scheme|cannot be fetched"):
        read_source(f"{server}/to/{where}")


def test_a_redirect_of_the_same_scheme_is_followed(server):
    assert read_source(f"{server}/to/{server}/plain.patch").title == "[PATCH] map it"
    with pytest.raises(InputError, match="cannot be fetched"):
        read_source(f"{server}/to/" * 30 + f"{server}/plain.patch")


def test_what_is_not_there_is_told(server):
    with pytest.raises(InputError, match=r"/none.patch cannot be fetched: 404"):
        read_source(f"{server}/none.patch")
    with pytest.raises(InputError, match="cannot be fetched"):
        read_source("http://127.0.0.1:1/x")
    with pytest.raises(InputError, match="cannot be fetched"):
        read_source("http://[bad/x")


def test_more_than_the_limit_is_refused(server):
    with pytest.raises(InputError, match="larger than 16 MiB"):
        read_source(f"{server}/large")


@pytest.mark.parametrize("page", ENDLESS)
def test_an_address_that_never_answers_or_never_ends_is_given_up(server, monkeypatch, page):
    monkeypatch.setattr(fetch, "TIME_LIMIT", 1.0)
    monkeypatch.setattr(fetch, "_SILENCE", 0.5)
    begun = time.monotonic()
    with pytest.raises(InputError, match=f"{page} {ENDLESS[page]}"):
        read_source(server + page)
    assert time.monotonic() - begun < 20
