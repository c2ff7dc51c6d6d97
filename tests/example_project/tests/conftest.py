"""What vfio_run runs in this project."""

import pytest


@pytest.fixture(scope="session")
def vfio_subject():
    return "src/dmabuf_map.c"
