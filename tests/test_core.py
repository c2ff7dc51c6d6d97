"""The reference helper on real mappings of a memfd, and on a table of calls that fails on demand."""

from __future__ import annotations

import copy
import ctypes
import errno
import gc
import mmap
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core_functions import core_function
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_verify import _core
from vfio_verify.core import (
    Cause,
    LayoutError,
    MappingError,
    Placeholder,
    PlaceholderError,
    RamBlock,
    StateError,
    ViewError,
    map_dmabuf,
)
from vfio_verify.errors import VfioVerifyError

PAGE = mmap.PAGESIZE
BLOCK_PAGES = 16
MAP_SHARED, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x01, 0x10, 0x20, 0x4000
PROT_NONE, PROT_READ = 0, 1
MAP_FAILED = (1 << 64) - 1


class Device:
    """A stamped memfd with two mapped RAMBlocks of 16 pages; the second one lies 1 TiB into the file."""

    NAME = "core-test-device"

    def __init__(self) -> None:
        self.fd = os.memfd_create(self.NAME)
        os.ftruncate(self.fd, (1 << 40) + BLOCK_PAGES * PAGE)
        self.maps = []
        self.blocks = []
        for file_offset in (0, 1 << 40):
            for page in range(BLOCK_PAGES):
                stamp = b"".join((file_offset + page * PAGE + word).to_bytes(8, "little") for word in range(0, PAGE, 8))
                os.pwrite(self.fd, stamp, file_offset + page * PAGE)
            memory = mmap.mmap(self.fd, BLOCK_PAGES * PAGE, offset=file_offset)
            self.maps.append(memory)
            host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            self.blocks.append(RamBlock(host, BLOCK_PAGES * PAGE, self.fd, file_offset))

    def page(self, number: int, block: int = 0) -> int:
        return self.blocks[block].host + number * PAGE

    def read(self, address: int, length: int) -> bytes:
        """What the file, not a mapping of it, has for these addresses."""
        for block in self.blocks:
            if block.host <= address and address + length <= block.host + block.length:
                return os.pread(self.fd, length, block.file_offset + address - block.host)
        raise AssertionError("the test asked for memory outside the blocks")


def shared_mappings() -> list[str]:
    """What the kernel lists of the device and of shared anonymous reservations."""
    with open("/proc/self/maps") as maps:
        return [line for line in maps if Device.NAME in line or "/dev/zero" in line]


@pytest.fixture(scope="module")
def device() -> Device:
    return Device()


@pytest.fixture(autouse=True)
def nothing_left_behind(device: Device) -> Iterator[None]:
    """UNMAP_ON_ERROR and NO_LEAK, for every test of this file."""
    mappings, descriptors, position = (
        shared_mappings(),
        os.listdir("/proc/self/fd"),
        os.lseek(device.fd, 0, 1),
    )
    yield
    assert shared_mappings() == mappings
    assert os.listdir("/proc/self/fd") == descriptors
    assert os.lseek(device.fd, 0, 1) == position


def run_script(body: str) -> None:
    """Run a script that starts with this module's names, in a process of its own."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])}
    script = "import gc, os, resource, time\nfrom test_core import *\n" + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# ---- what a mapping is


def test_segments_lie_one_after_the_other_in_iovec_order(device: Device) -> None:
    iovec = [
        (device.page(5), 2 * PAGE),
        (device.page(0), PAGE),
        (device.page(5), PAGE),
        (device.page(15), PAGE),
    ]
    with map_dmabuf(iovec, 5 * PAGE, device.blocks) as placeholder:
        assert placeholder.size == 5 * PAGE
        assert bytes(placeholder) == b"".join(device.read(*segment) for segment in iovec)


def test_every_page_is_shared_readable_and_nothing_else(device: Device) -> None:
    """READ_ONLY, CONTIGUOUS."""
    before = shared_mappings()
    with map_dmabuf([(device.page(3), PAGE), (device.page(1), PAGE)], 2 * PAGE, device.blocks) as placeholder:
        new = [line.split() for line in shared_mappings() if line not in before]
        spans = [tuple(int(part, 16) for part in fields[0].split("-")) for fields in new]
        assert spans == [(placeholder.address + i * PAGE, placeholder.address + (i + 1) * PAGE) for i in range(2)]
        assert [fields[1] for fields in new] == ["r--s", "r--s"]
        assert [int(fields[2], 16) for fields in new] == [3 * PAGE, PAGE]


def test_later_writes_of_device_and_guest_show_through(device: Device) -> None:
    """CONTENTS."""
    with (
        map_dmabuf([(device.page(7, 1), PAGE)], PAGE, device.blocks) as placeholder,
        memoryview(placeholder) as view,
    ):
        kept = device.read(device.page(7, 1), PAGE)
        os.pwrite(device.fd, b"device", (1 << 40) + 7 * PAGE)
        assert bytes(view[:6]) == b"device"
        device.maps[1][7 * PAGE + 100 : 7 * PAGE + 105] = b"guest"
        assert bytes(view[100:105]) == b"guest"
        os.pwrite(device.fd, kept, (1 << 40) + 7 * PAGE)


def test_a_misaligned_last_length_is_mapped_whole(device: Device) -> None:
    before = shared_mappings()
    with map_dmabuf([(device.page(2), PAGE), (device.page(9), 100)], PAGE + 100, device.blocks) as placeholder:
        assert placeholder.size == PAGE + 100
        assert bytes(placeholder) == device.read(device.page(2), PAGE) + device.read(device.page(9), 100)
        assert ctypes.string_at(placeholder.address + PAGE, PAGE) == device.read(device.page(9), PAGE)
    assert shared_mappings() == before


def test_a_block_that_ends_within_a_page_is_mapped_to_its_end(device: Device) -> None:
    block = RamBlock(device.page(0), PAGE + 100, device.fd, 0)
    with map_dmabuf([(device.page(1), 100)], 100, [block]) as placeholder:
        assert bytes(placeholder) == device.read(device.page(1), 100)
    with pytest.raises(LayoutError) as caught:
        map_dmabuf([(device.page(1), 101)], 101, [block])
    assert (caught.value.cause, caught.value.segment) == (Cause.PAST_BLOCK, 0)


def test_more_than_4_gib_are_mapped() -> None:
    size = 6 << 30
    fd = os.memfd_create("sparse")
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"first", 0)
        os.pwrite(fd, b"last", size - 4)
        # The core compares host addresses and never reads there, so the block need not be mapped.
        block = RamBlock(1 << 40, size, fd, 0)
        iovec = [(block.host + PAGE, size - PAGE), (block.host, PAGE)]
        with map_dmabuf(iovec, size, [block]) as placeholder, memoryview(placeholder) as view:
            assert len(view) == size
            assert bytes(view[size - PAGE - 4 : size - PAGE + 5]) == b"lastfirst"
    finally:
        os.close(fd)


def test_thirty_thousand_segments_are_mapped() -> None:
    count = 30_000
    fd = os.memfd_create("many")
    try:
        os.ftruncate(fd, count * PAGE)
        for number in range(count):
            os.pwrite(fd, number.to_bytes(4, "little"), number * PAGE)
        block = RamBlock(1 << 40, count * PAGE, fd, 0)
        backwards = [(block.host + number * PAGE, PAGE) for number in reversed(range(count))]
        with map_dmabuf(backwards, count * PAGE, [block]) as placeholder, memoryview(placeholder) as view:
            seen = [int.from_bytes(view[i * PAGE : i * PAGE + 4], "little") for i in range(count)]
        assert seen == list(reversed(range(count)))
    finally:
        os.close(fd)


def test_mappings_are_independent(device: Device) -> None:
    """REPEATABLE."""
    iovec = [(device.page(4), PAGE)]
    first, second = (map_dmabuf(iovec, PAGE, device.blocks) for _ in range(2))
    assert abs(first.address - second.address) >= PAGE
    first.close()
    assert bytes(second) == device.read(device.page(4), PAGE)
    second.close()


def test_threads_do_not_disturb_each_other(device: Device) -> None:
    """REPEATABLE."""
    wrong: list[int] = []

    def work(number: int) -> None:
        iovec = [(device.page(number), PAGE), (device.page(number + 8), PAGE)]
        expected = b"".join(device.read(*segment) for segment in iovec)
        for _ in range(100):
            with map_dmabuf(iovec, 2 * PAGE, device.blocks) as placeholder:
                if bytes(placeholder) != expected:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- what is refused


def expected_refusal(device: Device, iovec: list[tuple[int, int]], total: int) -> tuple[Cause, int | None] | None:
    """The rules once more, in Python's unbounded numbers."""
    if not iovec:
        return Cause.NO_SEGMENTS, None
    for i, (_, length) in enumerate(iovec):
        if length == 0:
            return Cause.EMPTY_SEGMENT, i
        if length % PAGE != 0 and i != len(iovec) - 1:
            return Cause.LENGTH_MISALIGNED, i
        if sum(length for _, length in iovec[: i + 1]) >= 1 << 64:
            return Cause.LENGTH_OVERFLOW, i
    if sum(length for _, length in iovec) != total:
        return Cause.SIZE_MISMATCH, None
    if -(-total // PAGE) * PAGE >= 1 << 64:
        return Cause.SIZE_OVERFLOW, None
    owners = []
    for i, (address, length) in enumerate(iovec):
        holding = [block for block in device.blocks if address in range(block.host, block.host + block.length)]
        if not holding:
            return Cause.NO_BLOCK, i
        owners.append(holding[0])
        if owners[i] != owners[0]:
            return Cause.OTHER_BLOCK, i
        if address + length > owners[i].host + owners[i].length:
            return Cause.PAST_BLOCK, i
        if (owners[i].file_offset + address - owners[i].host) % PAGE != 0:
            return Cause.OFFSET_MISALIGNED, i
    return None


def assert_told_well(error: PlaceholderError) -> None:
    assert isinstance(error, VfioVerifyError)
    assert error.message
    assert error.message[-1] not in ".\n"
    if error.segment is None:
        assert not error.message.startswith("segment")
    else:
        assert error.message.startswith(f"segment {error.segment}: ")


WELL_FORMED_LENGTHS = st.integers(1, 4).map(lambda pages: pages * PAGE)
ODD_LENGTHS = st.one_of(
    st.sampled_from([0, 1, 8, PAGE - 1, PAGE + 1, 17 * PAGE, 1 << 32, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


@st.composite
def layouts(draw: Any) -> Callable[[Device], tuple[list[tuple[int, int]], int]]:
    """A layout that is mostly well-formed, so that each rule is met alone as well as with others."""
    count = draw(st.integers(0, 6))
    home = draw(st.integers(0, 1))
    drawn = []
    for _ in range(count):
        odd = draw(st.sampled_from([None] * 8 + ["length", "block", "nowhere", "shift"]))
        length = draw(ODD_LENGTHS if odd == "length" else WELL_FORMED_LENGTHS)
        page = draw(st.integers(0, BLOCK_PAGES - 1 if odd else BLOCK_PAGES - 4))
        shift = draw(st.integers(1, PAGE - 1)) if odd == "shift" else 0
        block = 1 - home if odd == "block" else home
        drawn.append((None if odd == "nowhere" else block, page * PAGE + shift, length))
    if drawn and draw(st.booleans()):
        drawn[-1] = (*drawn[-1][:2], draw(st.integers(1, 4 * PAGE)))
    total_error = draw(st.sampled_from([0] * 8 + [1, -1, PAGE, -PAGE]))

    def place(device: Device) -> tuple[list[tuple[int, int]], int]:
        iovec = [
            ((PAGE if block is None else device.blocks[block].host) + offset, length) for block, offset, length in drawn
        ]
        total = sum(length for _, length in iovec) + total_error
        return iovec, total % (1 << 64)

    return place


@settings(max_examples=400)
@given(layouts())
def test_exactly_the_well_formed_layouts_are_mapped(
    device: Device, place: Callable[[Device], tuple[list[tuple[int, int]], int]]
) -> None:
    iovec, total = place(device)
    refusal = expected_refusal(device, iovec, total)
    before = shared_mappings()
    if refusal is None:
        with map_dmabuf(iovec, total, device.blocks) as placeholder:
            assert bytes(placeholder) == b"".join(device.read(*segment) for segment in iovec)
    else:
        with pytest.raises(LayoutError) as caught:
            map_dmabuf(iovec, total, device.blocks)
        assert (caught.value.cause, caught.value.segment) == refusal
        assert_told_well(caught.value)
    assert shared_mappings() == before


def refused(device: Device) -> dict[str, tuple[list[tuple[int, int]], int, Cause, int | None]]:
    good = (device.page(1), PAGE)
    end = device.blocks[0].host + device.blocks[0].length
    return {
        "no segments": ([], 0, Cause.NO_SEGMENTS, None),
        "no segments for a size": ([], PAGE, Cause.NO_SEGMENTS, None),
        "empty": ([good, (device.page(2), 0), good], 2 * PAGE, Cause.EMPTY_SEGMENT, 1),
        "empty last": ([good, (device.page(2), 0)], PAGE, Cause.EMPTY_SEGMENT, 1),
        "length": ([good, (device.page(2), 100), good], 2 * PAGE + 100, Cause.LENGTH_MISALIGNED, 1),
        "sum of 2**64": ([(1, 1 << 63), good, (1, 1 << 63)], PAGE, Cause.LENGTH_OVERFLOW, 2),
        "sum of exactly 2**64": ([(1, 1 << 63), (1, 1 << 63)], 0, Cause.LENGTH_OVERFLOW, 1),
        "size too large": ([good], PAGE + 1, Cause.SIZE_MISMATCH, None),
        "size too small": ([good, good], 2 * PAGE - 1, Cause.SIZE_MISMATCH, None),
        "size 0": ([good], 0, Cause.SIZE_MISMATCH, None),
        "size not to be rounded": (
            [(1, (1 << 64) - PAGE + 1)],
            (1 << 64) - PAGE + 1,
            Cause.SIZE_OVERFLOW,
            None,
        ),
        "largest size to be rounded": ([(1, (1 << 64) - PAGE)], (1 << 64) - PAGE, Cause.NO_BLOCK, 0),
        "just below": (
            [good, (min(block.host for block in device.blocks) - 1, PAGE)],
            2 * PAGE,
            Cause.NO_BLOCK,
            1,
        ),
        "null": ([(0, PAGE)], PAGE, Cause.NO_BLOCK, 0),
        "last address": ([((1 << 64) - 1, PAGE)], PAGE, Cause.NO_BLOCK, 0),
        "other block": ([good, good, (device.page(1, 1), PAGE)], 3 * PAGE, Cause.OTHER_BLOCK, 2),
        "a byte past": ([(end - PAGE, PAGE + 1)], PAGE + 1, Cause.PAST_BLOCK, 0),
        "a page past": ([good, (end - PAGE, 2 * PAGE), good], 4 * PAGE, Cause.PAST_BLOCK, 1),
        "wraps around": ([(end - PAGE, (1 << 64) - 2 * PAGE)], (1 << 64) - 2 * PAGE, Cause.PAST_BLOCK, 0),
        "misaligned": ([good, (device.page(2) + 8, PAGE)], 2 * PAGE, Cause.OFFSET_MISALIGNED, 1),
    }


def test_a_malformed_layout_is_refused_with_its_cause_before_any_system_call(device: Device) -> None:
    for name, (iovec, total, cause, segment) in refused(device).items():
        with pytest.raises(LayoutError) as caught:
            map_dmabuf(iovec, total, device.blocks)
        assert (caught.value.cause, caught.value.segment) == (cause, segment), name
        assert_told_well(caught.value)
        calls = Calls(device)
        assert calls.map(iovec, total) == cause, name
        assert calls.trace == [], name
        assert calls.message() == caught.value.message


def test_a_message_names_segment_cause_and_numbers(device: Device) -> None:
    with pytest.raises(LayoutError) as caught:
        map_dmabuf([(device.page(0), PAGE)] * 3 + [(device.page(1), 100), (device.page(0), PAGE)], 0, device.blocks)
    assert str(caught.value) == f"segment 3: length 100 is not a multiple of the page size ({PAGE})"


@pytest.mark.parametrize(
    ("file_offset", "page"),
    [((1 << 63) - PAGE, 0), ((1 << 64) - PAGE, 1), (1 << 63, 0), ((1 << 64) - PAGE, 0)],
)
def test_a_file_offset_that_does_not_fit_is_refused(device: Device, file_offset: int, page: int) -> None:
    block = RamBlock(1 << 40, 4 * PAGE, device.fd, file_offset)
    with pytest.raises(LayoutError) as caught:
        map_dmabuf([(block.host + page * PAGE, 2 * PAGE)], 2 * PAGE, [block])
    assert (caught.value.cause, caught.value.segment) == (Cause.OFFSET_OVERFLOW, 0)


def test_the_segments_count_in_the_file_and_not_in_the_block(device: Device) -> None:
    """ALIGNED is about what mmap is given: the block's own offset counts."""
    block = RamBlock(1 << 40, 4 * PAGE, device.fd, 512)
    with map_dmabuf([((1 << 40) + PAGE - 512, PAGE)], PAGE, [block]) as placeholder:
        assert bytes(placeholder) == os.pread(device.fd, PAGE, PAGE)
    with pytest.raises(LayoutError) as caught:
        map_dmabuf([(1 << 40, PAGE)], PAGE, [block])
    assert caught.value.cause is Cause.OFFSET_MISALIGNED


@pytest.mark.parametrize("number", [-1, 1 << 64, -(1 << 64), 1 << 200])
def test_numbers_that_are_no_address_or_size_are_an_overflow(device: Device, number: int) -> None:
    good = (device.page(0), PAGE)
    for bad in ((number, PAGE), (device.page(0), number)):
        with pytest.raises(OverflowError, match=r"^segment 1: "):
            map_dmabuf([good, bad], 2 * PAGE, device.blocks)
    with pytest.raises(OverflowError, match="total_size"):
        map_dmabuf([good], number, device.blocks)
    for changed in ({"host": number}, {"length": number}, {"fd": number}, {"file_offset": number}):
        with pytest.raises(ValueError, match=r"RAMBlock|no file descriptor"):
            RamBlock(**({"host": 0, "length": PAGE, "fd": 0, "file_offset": 0} | changed))


@pytest.mark.parametrize("value", [1.0, "1", None])
def test_values_that_are_no_integers_are_a_type_error(device: Device, value: Any) -> None:
    for iovec, total in (([(value, PAGE)], PAGE), ([(PAGE, value)], PAGE), ([(PAGE, PAGE)], value)):
        with pytest.raises(TypeError):
            map_dmabuf(iovec, total, device.blocks)


def test_blocks_that_overlap_are_refused(device: Device) -> None:
    first = device.blocks[0]
    touching = RamBlock(first.host + first.length, PAGE, device.fd, 0)
    map_dmabuf([(first.host, PAGE)], PAGE, [touching, first]).close()
    overlapping = RamBlock(first.host + first.length - 1, PAGE, device.fd, 0)
    with pytest.raises(ValueError, match="overlap"):
        map_dmabuf([(first.host, PAGE)], PAGE, [overlapping, first])


# ---- steps that fail in the kernel


@pytest.mark.parametrize(
    ("path", "number"),
    [("/proc/self/fd/{}", errno.EACCES), ("/proc/self", errno.ENODEV), (None, errno.EBADF)],
    ids=["write-only", "directory", "closed"],
)
def test_an_overlay_that_the_kernel_refuses_leaves_nothing(device: Device, path: str | None, number: int) -> None:
    fd = os.dup(device.fd)
    if path is not None:
        os.close(fd)
        fd = os.open(path.format(device.fd), os.O_WRONLY if "fd" in path else os.O_RDONLY)
    before = shared_mappings()
    if path is None:
        os.close(fd)
    with pytest.raises(MappingError) as caught:
        map_dmabuf([(1 << 40, PAGE), (1 << 40, PAGE)], 2 * PAGE, [RamBlock(1 << 40, PAGE, fd, 0)])
    if path is not None:
        os.close(fd)
    error = caught.value
    assert (error.cause, error.segment, error.errno) == (Cause.OVERLAY_FAILED, 0, number)
    assert error.strerror == os.strerror(number)
    assert str(error) == f"{error.message}: {os.strerror(number)}"
    assert_told_well(error)
    assert shared_mappings() == before


@pytest.mark.not_under_asan("its shadow memory alone is beyond any limit on the address space")
def test_a_reservation_beyond_the_address_space_limit_fails() -> None:
    run_script("""
        limit = 4 << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = shared_mappings()
        try:
            map_dmabuf([(1 << 40, limit)], limit, [RamBlock(1 << 40, limit, 0, 0)])
        except MappingError as error:
            assert error.cause is Cause.RESERVE_FAILED, error
            assert (error.segment, error.errno) == (None, errno.ENOMEM)
            assert_told_well(error)
        else:
            raise AssertionError("mapped")
        assert shared_mappings() == before
    """)


def test_an_overlay_beyond_the_map_count_limit_leaves_nothing() -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 200_000:
        pytest.skip(f"a map count limit of {limit} takes too long to reach")
    run_script(f"""
        count = {limit} + 10
        fd = os.memfd_create(Device.NAME)
        block = RamBlock(1 << 40, 2 * count * PAGE, fd, 0)
        before = shared_mappings()
        try:
            map_dmabuf([(block.host + 2 * i * PAGE, PAGE) for i in range(count)], count * PAGE, [block])
        except MappingError as error:
            assert (error.cause, error.errno) == (Cause.OVERLAY_FAILED, errno.ENOMEM), error
            assert error.segment is not None and count // 2 < error.segment < count
        else:
            raise AssertionError("mapped")
        gc.collect()
        assert shared_mappings() == before
    """)


# ---- how it ends


def test_close_unmaps_and_may_be_repeated(device: Device) -> None:
    before = shared_mappings()
    placeholder = map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks)
    assert f"{PAGE} bytes at {placeholder.address:#x}" in repr(placeholder)
    placeholder.close()
    placeholder.close()
    assert placeholder.closed
    assert "closed" in repr(placeholder)
    assert shared_mappings() == before


def test_an_exception_in_the_with_block_unmaps(device: Device) -> None:
    before = shared_mappings()
    with pytest.raises(KeyError), map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks) as placeholder:
        raise KeyError
    assert placeholder.closed
    assert shared_mappings() == before


def closed_placeholder() -> Placeholder:
    fd = os.memfd_create("closed")
    with map_dmabuf([(1 << 40, PAGE)], PAGE, [RamBlock(1 << 40, PAGE, fd, 0)]) as placeholder:
        os.close(fd)
    return placeholder


@pytest.mark.parametrize("make", [Placeholder, closed_placeholder], ids=["never mapped", "closed"])
@pytest.mark.parametrize(
    "use",
    [lambda p: p.address, lambda p: p.size, lambda p: p.detach(), lambda p: p.__enter__(), memoryview],
    ids=["address", "size", "detach", "with", "memoryview"],
)
def test_a_closed_placeholder_can_not_be_used(
    make: Callable[[], Placeholder], use: Callable[[Placeholder], object]
) -> None:
    with pytest.raises(StateError) as caught:
        use(make())
    assert caught.value.cause is Cause.CLOSED
    assert_told_well(caught.value)


def test_a_live_view_blocks_close_and_detach(device: Device) -> None:
    placeholder = map_dmabuf([(device.page(6), PAGE)], PAGE, device.blocks)
    view = memoryview(placeholder)
    second = view[8:16]
    view.release()
    for end in (placeholder.close, placeholder.detach):
        with pytest.raises(ViewError) as caught:
            end()
        assert isinstance(caught.value, BufferError)
        assert caught.value.cause is Cause.EXPORTED
    assert bytes(second) == device.read(device.page(6) + 8, 8)
    second.release()
    placeholder.close()


def test_views_are_read_only(device: Device) -> None:
    with map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks) as placeholder:
        with memoryview(placeholder) as view:
            assert view.readonly
            assert (view.format, view.itemsize, view.shape) == ("B", 1, (PAGE,))
        with pytest.raises(BufferError):
            os.readv(device.fd, [placeholder])
        # The refused request was not counted: close() works.


def test_a_view_keeps_the_mapping_and_its_end_unmaps(device: Device) -> None:
    before = shared_mappings()
    view = memoryview(map_dmabuf([(device.page(3), PAGE)], PAGE, device.blocks))
    gc.collect()
    assert bytes(view) == device.read(device.page(3), PAGE)
    view.release()
    del view
    assert shared_mappings() == before


def test_garbage_collection_unmaps(device: Device) -> None:
    before = shared_mappings()
    cycle: list[Any] = [map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks)]
    cycle.append(cycle)
    assert shared_mappings() != before
    del cycle
    gc.collect()
    assert shared_mappings() == before


def test_detach_hands_the_mapping_over(device: Device) -> None:
    placeholder = map_dmabuf([(device.page(2), PAGE)], PAGE, device.blocks)
    expected_address = placeholder.address
    address = placeholder.detach()
    assert placeholder.closed
    placeholder.close()
    del placeholder
    gc.collect()
    assert address == expected_address
    assert ctypes.string_at(address, PAGE) == device.read(device.page(2), PAGE)
    assert libc.munmap(address, PAGE) == 0


def test_a_placeholder_is_neither_copied_nor_pickled(device: Device) -> None:
    """Two owners would unmap twice."""
    with map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks) as placeholder:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                attempt(placeholder)


@pytest.mark.parametrize("end", ["placeholder.close()", "del placeholder; gc.collect()"])
def test_a_forked_child_unmaps_nothing(end: str) -> None:
    run_script(f"""
        device = Device()
        placeholder = map_dmabuf([(device.page(1), PAGE), (device.page(0), PAGE)], 2 * PAGE, device.blocks)
        mappings = shared_mappings()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                {end}
                assert shared_mappings() == mappings
                with map_dmabuf([(device.page(0), PAGE)], PAGE, device.blocks) as own:
                    assert shared_mappings() != mappings
                assert shared_mappings() == mappings
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert bytes(placeholder) == device.read(device.page(1), PAGE) + device.read(device.page(0), PAGE)
        assert shared_mappings() == mappings
        placeholder.close()
        assert shared_mappings() != mappings
    """)


# ---- the C face


class CIovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_size_t), ("length", ctypes.c_size_t)]


class CBlock(ctypes.Structure):
    _fields_ = [
        ("host", ctypes.c_size_t),
        ("length", ctypes.c_uint64),
        ("fd", ctypes.c_int),
        ("file_offset", ctypes.c_uint64),
        ("id", ctypes.c_uint64),
    ]


MMAP_ARGUMENTS = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
MUNMAP_ARGUMENTS = [ctypes.c_size_t, ctypes.c_size_t]
MMAP = ctypes.CFUNCTYPE(ctypes.c_void_p, *MMAP_ARGUMENTS, use_errno=True)
MUNMAP = ctypes.CFUNCTYPE(ctypes.c_int, *MUNMAP_ARGUMENTS, use_errno=True)
RESOLVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(CBlock))


class CCalls(ctypes.Structure):
    _fields_ = [
        ("mmap", MMAP),
        ("munmap", MUNMAP),
        ("resolve", RESOLVE),
        ("context", ctypes.c_void_p),
        ("page_size", ctypes.c_size_t),
    ]


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, MMAP_ARGUMENTS
libc.munmap.restype, libc.munmap.argtypes = ctypes.c_int, MUNMAP_ARGUMENTS


class Calls:
    """A table of calls that records, carries out, and fails what the test asks for."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.placeholder = Placeholder()
        self.trace: list[tuple[Any, ...]] = []
        self.look_ups = 0
        self.mmaps = 0
        self.fail_mmap = (0, 0, False)  # which one, errno, whether it first takes away what was there
        self.fail_munmaps = 0  # how many are still to fail
        self.fail_look_up = (0, 0)
        self.on_look_up: Callable[[int, Any], None] | None = None
        self.table = CCalls(MMAP(self._mmap), MUNMAP(self._munmap), RESOLVE(self._resolve), None)
        self._map = core_function(
            "core_map", ctypes.c_int, ctypes.py_object, ctypes.POINTER(CCalls), ctypes.POINTER(CIovec),
            ctypes.c_uint, ctypes.c_size_t,
        )  # fmt: skip
        self._release = core_function("core_release", ctypes.c_int, ctypes.py_object)
        self._detach = core_function("core_detach", ctypes.c_void_p, ctypes.py_object)
        self._message = core_function("core_message", ctypes.c_char_p, ctypes.py_object)

    def map(self, iovec: list[tuple[int, int]], total: int) -> int:
        self.iovec = (CIovec * len(iovec))(*(CIovec(*segment) for segment in iovec))
        return int(self._map(self.placeholder, self.table, self.iovec, len(iovec), total))

    def release(self) -> int:
        return int(self._release(self.placeholder))

    def detach(self) -> int | None:
        address: int | None = self._detach(self.placeholder)
        return address

    def message(self) -> str:
        return str(self._message(self.placeholder).decode())

    def _mmap(self, *arguments: int) -> int:
        self.mmaps += 1
        number, error, late = self.fail_mmap
        result: int
        if self.mmaps == number:
            if late:
                libc.munmap(*arguments[:2])
            ctypes.set_errno(error)
            result = MAP_FAILED
        else:
            result = libc.mmap(*arguments)
        self.trace.append(("mmap", *arguments, result))
        return result

    def _munmap(self, address: int, length: int) -> int:
        self.trace.append(("munmap", address, length))
        if self.fail_munmaps:
            self.fail_munmaps -= 1
            ctypes.set_errno(errno.ENOMEM)
            return -1
        return int(libc.munmap(address, length))

    def _resolve(self, _context: int, address: int, found: Any) -> int:
        self.look_ups += 1
        if self.look_ups == self.fail_look_up[0]:
            return self.fail_look_up[1]
        for position, block in enumerate(self.device.blocks):
            if block.host <= address < block.host + block.length:
                found[0] = CBlock(block.host, block.length, block.fd, block.file_offset, position)
                if self.on_look_up is not None:
                    self.on_look_up(self.look_ups, found[0])
                return 0
        return errno.EFAULT


def good_iovec(device: Device, count: int = 5) -> list[tuple[int, int]]:
    return [(device.page(2 * i, 1), PAGE * (1 + i % 2)) for i in range(count)]


def total_of(iovec: list[tuple[int, int]]) -> int:
    return sum(length for _, length in iovec)


def expected_mmaps(device: Device, iovec: list[tuple[int, int]], address: int) -> list[tuple[int, ...]]:
    reservation = (0, total_of(iovec), PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    overlays = [
        (
            address + total_of(iovec[:i]), length, PROT_READ, MAP_SHARED | MAP_FIXED, device.fd,
            (1 << 40) + base - device.blocks[1].host,
        )
        for i, (base, length) in enumerate(iovec)
    ]  # fmt: skip
    return [reservation, *overlays]


def test_the_system_calls_are_one_reservation_and_one_overlay_a_segment(device: Device) -> None:
    """NO_WINDOW, CONFINED, READ_ONLY: these calls and no others."""
    calls, iovec = Calls(device), good_iovec(device)
    assert calls.map(iovec, total_of(iovec)) == 0
    assert calls.message() == ""
    address = calls.placeholder.address
    assert [entry[1:-1] for entry in calls.trace] == expected_mmaps(device, iovec, address)
    assert calls.look_ups == len(iovec)
    assert calls.release() == 0
    assert calls.trace[-1] == ("munmap", address, total_of(iovec))
    assert calls.placeholder.closed


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EINVAL, errno.EACCES])
def test_whichever_step_fails_all_is_unmapped(device: Device, number: int, late: bool) -> None:
    """UNMAP_ON_ERROR, FAULT_REPORTED: fail step 1, 2, 3... until a run meets no fault."""
    iovec = good_iovec(device)
    before = shared_mappings()
    for step in range(1, len(iovec) + 2):
        calls = Calls(device)
        calls.fail_mmap = (step, number, late and step > 1)
        cause = calls.map(iovec, total_of(iovec))
        assert cause == (Cause.RESERVE_FAILED if step == 1 else Cause.OVERLAY_FAILED)
        assert calls.message().startswith("" if step == 1 else f"segment {step - 2}: ")
        assert f"(errno {number})" in calls.message()
        assert calls.placeholder.closed
        assert shared_mappings() == before
        address = calls.trace[0][-1]
        assert [entry[1:-1] for entry in calls.trace[:step]] == expected_mmaps(device, iovec, address)[:step]
        assert calls.trace[step:] == ([] if step == 1 else [("munmap", address, total_of(iovec))])
        calls.fail_mmap = (0, 0, False)
        assert calls.map(iovec, total_of(iovec)) == 0, "it can be used again"
        assert calls.message() == ""
        assert calls.release() == 0
    assert calls.mmaps == 2 * (len(iovec) + 1), "the last step was failed, too"


def test_a_look_up_that_fails_is_reported_with_its_errno(device: Device) -> None:
    iovec = good_iovec(device)
    for nth in range(1, len(iovec) + 1):
        calls = Calls(device)
        calls.fail_look_up = (nth, errno.EIO)
        assert calls.map(iovec, total_of(iovec)) == Cause.LOOKUP_FAILED
        assert calls.message().startswith(f"segment {nth - 1}: ")
        assert f"(errno {errno.EIO})" in calls.message()
        assert calls.trace == []


def test_a_munmap_that_fails_once_is_repeated(device: Device) -> None:
    before, iovec = shared_mappings(), good_iovec(device)
    calls = Calls(device)
    calls.fail_mmap = (3, errno.ENOMEM, False)
    calls.fail_munmaps = 1
    assert calls.map(iovec, total_of(iovec)) == Cause.OVERLAY_FAILED
    assert calls.placeholder.closed
    assert shared_mappings() == before


def test_remains_that_cannot_be_unmapped_are_held_and_not_shown(device: Device) -> None:
    before, iovec = shared_mappings(), good_iovec(device)
    calls = Calls(device)
    calls.fail_mmap = (3, errno.EACCES, False)
    calls.fail_munmaps = 2
    assert calls.map(iovec, total_of(iovec)) == Cause.OVERLAY_FAILED
    assert calls.message().startswith("segment 1: ")
    assert calls.message().endswith(f"unmapping the reservation failed, too (errno {errno.ENOMEM})")
    with pytest.raises(StateError):
        memoryview(calls.placeholder)
    assert shared_mappings() != before
    assert calls.release() == 0
    assert calls.placeholder.closed
    assert shared_mappings() == before


def test_close_reports_a_munmap_that_fails_and_can_be_tried_again(device: Device) -> None:
    before, iovec = shared_mappings(), good_iovec(device)
    calls = Calls(device)
    assert calls.map(iovec, total_of(iovec)) == 0
    calls.fail_munmaps = 2
    with pytest.raises(MappingError) as caught:
        calls.placeholder.close()
    error = caught.value
    assert (error.cause, error.segment, error.errno) == (Cause.RELEASE_FAILED, None, errno.ENOMEM)
    assert_told_well(error)
    assert bytes(calls.placeholder) == b"".join(device.read(*segment) for segment in iovec)
    calls.placeholder.close()
    assert shared_mappings() == before


def test_a_placeholder_holds_one_mapping_at_a_time(device: Device) -> None:
    calls, iovec = Calls(device), good_iovec(device)
    assert calls.map(iovec, total_of(iovec)) == 0
    made = len(calls.trace)
    assert calls.map(iovec, total_of(iovec)) == Cause.HELD
    assert calls.message() == "the placeholder still holds a mapping"
    assert len(calls.trace) == made
    assert bytes(calls.placeholder) == b"".join(device.read(*segment) for segment in iovec)
    address = calls.detach()
    assert calls.detach() is None
    assert calls.map(iovec, total_of(iovec)) == 0
    assert calls.placeholder.address != address
    assert calls.release() == 0
    assert address is not None
    assert libc.munmap(address, total_of(iovec)) == 0


def test_a_view_blocks_release_and_detach_in_c(device: Device) -> None:
    calls, iovec = Calls(device), good_iovec(device)
    assert calls.map(iovec, total_of(iovec)) == 0
    with memoryview(calls.placeholder):
        assert calls.detach() is None
        assert calls.release() == Cause.EXPORTED
    assert calls.release() == 0


@pytest.mark.parametrize("length", [PAGE, 2 * PAGE, 3 * PAGE, 8 * PAGE, 0, 100, 1 << 40, (1 << 64) - PAGE])
@pytest.mark.parametrize("base_shift", [0, 8, -3 * PAGE, 1 << 40])
def test_an_iovec_that_changes_during_the_call_does_no_harm(device: Device, length: int, base_shift: int) -> None:
    """CONFINED: what was checked need not be what is mapped."""
    iovec = [(device.page(1, 1), 2 * PAGE), (device.page(4, 1), PAGE), (device.page(6, 1), PAGE)]
    before = shared_mappings()
    calls = Calls(device)

    def change(number: int, _block: Any) -> None:
        if number == 3:
            calls.iovec[1] = CIovec(iovec[1][0] + base_shift, length)

    calls.on_look_up = change
    cause = calls.map(iovec, 4 * PAGE)
    reservation = range(calls.trace[0][-1], calls.trace[0][-1] + 4 * PAGE + 1)
    for name, address, size, *_ in calls.trace[1:]:
        assert address in reservation, name
        assert address + size in reservation, name
    if length == PAGE and base_shift in (0, -3 * PAGE):  # what it changed to is well-formed as well
        assert cause == 0
        assert calls.release() == 0
    else:
        assert cause != 0
    assert shared_mappings() == before


def test_an_iovec_that_shrinks_during_the_call_leaves_no_placeholder_page(device: Device) -> None:
    """CONTIGUOUS: a page that no segment covers must not be handed out."""
    calls = Calls(device)

    def shrink(number: int, _block: Any) -> None:
        if number == 2:
            calls.iovec[0].length = PAGE

    calls.on_look_up = shrink
    assert calls.map([(device.page(1), 2 * PAGE), (device.page(4), PAGE)], 3 * PAGE) == Cause.IOVEC_CHANGED
    assert calls.message() == "the iovec changed while it was being mapped"
    assert calls.placeholder.closed


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [
        ("host", 1 << 50, Cause.NO_BLOCK),
        ("length", PAGE, Cause.NO_BLOCK),
        ("length", 4 * PAGE + 1, Cause.PAST_BLOCK),
        ("length", 0, Cause.NO_BLOCK),
    ],
)
def test_a_look_up_that_answers_wrongly_does_no_harm(device: Device, field: str, value: int, cause: Cause) -> None:
    calls = Calls(device)
    calls.on_look_up = lambda _, block: setattr(block, field, value)
    assert calls.map([(device.page(4), PAGE)], PAGE) == cause
    assert calls.trace == []


def test_a_c_caller_without_an_iovec_is_refused(device: Device) -> None:
    calls = Calls(device)
    assert calls._map(calls.placeholder, calls.table, None, 3, PAGE) == Cause.NO_SEGMENTS


# ---- the package around it


def test_the_causes_are_those_of_the_c_code() -> None:
    assert {cause.name: cause.value for cause in Cause} == _core.CAUSES


def test_an_error_survives_pickling(device: Device) -> None:
    with pytest.raises(MappingError) as caught:
        map_dmabuf([(1 << 40, PAGE)], PAGE, [RamBlock(1 << 40, PAGE, 1 << 20, 0)])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.cause, again.segment) == (str(caught.value), caught.value.cause, 0)


def test_the_import_error_of_an_uncompiled_package_says_how_to_build_it() -> None:
    script = "import sys; sys.modules['vfio_verify._core'] = None; import vfio_verify.core"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], check=False, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install -e ." in done.stderr.splitlines()[-1]
