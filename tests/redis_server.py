"""A Redis server that lives as long as a test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

needs_server = pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")


class Server:
    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis"
        self.url = f"unix://{self.socket}?db=0"
        arguments = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", directory]
        self.process = subprocess.Popen(
            ["redis-server", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while not self._answers():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)

    def _answers(self) -> bool:
        """Whether it listens: the socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.kill()
