"""What lies at an address: a patch in Patchwork or in a mailing list's archive, or a mail by its message-id."""

from __future__ import annotations

import http.client
import io
import os
import re
import time
import urllib.error
import urllib.request
from functools import partial
from typing import IO, Any
from urllib.parse import quote, urlsplit

from vfio_verify import __version__
from vfio_verify.errors import InputError

TIME_LIMIT = 30.0  # seconds, for all of it
_SILENCE = 10.0  # seconds without a byte
_ARCHIVE = "https://lore.kernel.org/all"
_PATCHWORK = re.compile(r"/(?:project/[^/]+/)?(?:patch|series|cover)/[^/]+$")
_LORE = re.compile(r"/[^/]+/[^/]+@[^/]+$")


def fetch(address: str, limit: int) -> bytes:
    """What lies at an address, up to `limit` bytes. Of a patch's page, its mail is taken.

    A message-id is looked for in the archive that `VFIO_VERIFY_ARCHIVE` names, else at lore.kernel.org. Raises
    InputError if that fails, takes too long, is too large, or leads to an address of another scheme.
    """
    try:
        url = _source_of(address)
    except ValueError as error:
        raise InputError(f"{address} cannot be fetched: {error}") from None
    deadline = time.monotonic() + TIME_LIMIT
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Limited(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameScheme(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": f"vfio-verify/{__version__}"})
    try:
        with opener.open(request, timeout=_SILENCE) as answer:
            return _read(answer, url, limit)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url} cannot be fetched: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            late = time.monotonic() >= deadline
            said = f"did not end within {TIME_LIMIT:g} seconds" if late else "does not answer"
            raise InputError(f"{url} {said}") from None
        raise InputError(f"{url} cannot be fetched: {reason}") from None


def _source_of(address: str) -> str:
    """Where the text of a patch lies whose page, or message-id, this is."""
    if not address.lower().startswith(("http://", "https://")):
        archive = os.environ.get("VFIO_VERIFY_ARCHIVE", _ARCHIVE).rstrip("/")
        return f"{archive}/{quote(address.strip('<>'), safe='@+=')}/raw"
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    if series := re.search(r"(?:^|&)series=(\d+)", parts.query):
        path = f"/series/{series[1]}/mbox/"
    elif _PATCHWORK.search(path) and "/api/" not in path:
        path += "/mbox/"
    elif _LORE.search(path):
        path += "/raw"
    else:
        return address
    return parts._replace(path=path, query="", fragment="").geturl()


def _read(answer: IO[bytes], url: str, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size <= limit:
        piece = answer.read1(1 << 16)  # type: ignore[attr-defined]
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    raise InputError(f"{url} is larger than {limit >> 20} MiB, the most that is read")


class _Limited(urllib.request.AbstractHTTPHandler):
    """Asks a server, whose answer is to end before a deadline. TimeoutError if it does not, or the server is silent."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, http.client.HTTPSConnection), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(
        self, kind: type[http.client.HTTPConnection], host: str, timeout: float
    ) -> http.client.HTTPConnection:
        connection = kind(host, timeout=timeout)
        connection.response_class = self._answer  # type: ignore[assignment]  # it is only called
        return connection

    def _answer(self, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
        answer = http.client.HTTPResponse(*arguments, **named)
        answer.fp = io.BufferedReader(_Until(self._deadline, answer.fp))  # its headers are read from there too
        return answer


class _Until(io.RawIOBase):
    """What comes from a server until a deadline."""

    def __init__(self, deadline: float, inner: io.BufferedReader) -> None:
        self._deadline, self._inner = deadline, inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() >= self._deadline:
            raise TimeoutError
        return self._inner.readinto1(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address of the same scheme, or from http to https."""

    def redirect_request(  # noqa: PLR0917  urllib's
        self, request: urllib.request.Request, file: IO[bytes], code: int, message: str, headers: object, url: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(request.full_url).scheme, urlsplit(url).scheme
        if after not in (before, "https"):
            raise InputError(f"{request.full_url} leads to {url}, of another scheme, which is refused")
        return super().redirect_request(request, file, code, message, headers, url)  # type: ignore[arg-type]
