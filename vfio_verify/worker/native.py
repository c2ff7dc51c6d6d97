"""Numbers and structs that the C sources under pyx/world have too, mostly under the same names.

A struct is a named tuple and its format: 64-bit words, in the order in which C has them. What a worker wrote is read
with its bounds checked: its process ran a subject.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from struct import Struct as Format
from struct import pack
from typing import NamedTuple

from vfio_verify.values.observation import STEPS

NONE = (1 << 64) - 1

# ---- requests ----------------------------------------------------------------------------------------------

REQUEST_MAGIC, SESSION_MAGIC, THREADS_MAGIC = 0x3171657276696676, 0x3173736573766676, 0x3171726874696676
TWICE, PARSE_MAPS, ZEROED, FIRST, LAST = 1, 2, 16, 1 << 16, 2 << 16
"""``enum vv_request_flags``; the last two are of a session."""
MMAP_RULES = ("region", "areas", "file")
"""In the order of ``enum vv_mmap_rule``."""
MSIX = (None, "cut", "mappable")
"""In the order of ``enum vv_msix``."""
CONVENTIONS = ("vfio_device_get_region_info=true", "vfio_device_lookup=0", "RAMBlock.fd=device")
"""The bits of ``enum vv_conventions``, from the lowest on."""
CALL, END, CHANGE, DROP, FORK = range(5)
"""``enum vv_action_kind``."""

RequestHead = namedtuple(
    "RequestHead",
    "magic flags n_devices n_regions n_areas n_blocks n_segments n_plans total_size null_errp "
    "kernel_kind kernel_at kernel_rules page_size conventions",
)
"""``struct vv_request``, which the arrays that it counts and the plans follow."""
RegionWords = namedtuple("RegionWords", "device index size flags sparse memory offset msix")
"""``struct vv_region``."""
FaultWords = namedtuple("FaultWords", "step nth when error persistent")
"""``struct vv_fault``."""
ThreadsHead = namedtuple("ThreadsHead", "magic rounds seed n_calls")
"""``struct request`` of threads.c, which an ordinary request and the other calls follow."""


def pack_words(words: Sequence[int]) -> bytes:
    """Words, one behind another."""
    return pack(f"={len(words)}Q", *words)


# ---- replies -----------------------------------------------------------------------------------------------

VMA, DIFFERENCE = Format("=2q3Q"), Format("=5Q")
"""``struct vv_vma``, whose start and end are relative to a record's base, and ``struct vv_difference``."""
MESSAGE_BYTES, ALL_LEFT = 4096, 7
"""The longest message, and all of ``enum vv_left``."""

Record = namedtuple(
    "Record",
    "bytes mapped address base error_given error_left error_sets message_bytes "
    "pages_before pages_after pages_end "
    "heap_live heap_live_bytes cached_frees bad_frees "
    "n_events n_vmas n_strays n_differences events_dropped pages_compared pages_total flags_union counts "
    "second_called second_mapped second_address second_like_first second_differences first_whole_after "
    "first_differences_after second_flags_union left error_at error_again_at heap_at free_at fds_left fds_gone "
    "references_kept references_dropped read_locks reference_at",
)
"""``struct vv_record``, which the events, vmas, strays, differences and the message follow; `counts` is bytes."""
RECORD, COUNTS = Format(f"=23Q{8 * len(STEPS)}s19Q"), Format(f"={len(STEPS)}Q")
Look = namedtuple("Look", "bytes done error left child pages n_mappings")
"""``struct vv_look``, which that many mappings follow."""
MappingLook = namedtuple("MappingLook", "call address n_vmas n_differences pages_compared pages_total")
"""``struct vv_mapping_look``, which the vmas and the differences follow."""
LOOK, MAPPING_LOOK = Format("=7Q"), Format("=6Q")
ThreadsReply = namedtuple("ThreadsReply", "n_threads rounds differs n_records")
"""``struct reply`` of threads.c, which the records follow."""
Log = namedtuple(
    "Log",
    "n_threads round policy dead slice max_events holes hole_thread hole_start hole_end hole_at hole_order "
    "grabs grab_thread grab_start grab_end grab_at grab_bytes grab_order clobbered",
)
"""``struct log`` of threads.c, in the second half of the reply; the threads' orders and events follow."""
THREADS_REPLY, LOG, LOG_BYTES = Format("=4Q"), Format("=20Q"), 32 * 8

# ---- what a worker and its owner share -----------------------------------------------------------------------

PROGRESS_BYTES, REQUEST_BYTES, REPLY_BYTES, COVERED_BYTES = 4096, 16 << 20, 32 << 20, 1 << 20
"""The parts of the shared memory, one behind another: progress, request, reply, and a byte for each place in the
subject's library."""
LOG_AT = REPLY_BYTES // 2
"""Where in the reply concurrent calls keep their log."""


class Progress(NamedTuple):
    """What the worker last said of itself: ``struct vv_progress`` up to its note."""

    pid: int
    plan: int
    finished: int
    reply_bytes: int
    in_subject: int
    signal: int
    signal_address: int
    n_events: int
    reservation: int
    iov_end: int
    changes: int
    note_bytes: int


class Places(NamedTuple):
    """Where the subject's code was when its process ended: ``struct vv_progress`` behind its note."""

    error_at: tuple[int, ...]
    is_told: bool
    frames: tuple[int, ...]
    death_code: int

    @classmethod
    def unpack(cls, data: bytes) -> Places:
        first, second, told, n_frames, *frames, code = PLACES.unpack(data)
        return cls((first, second), is_told=bool(told), frames=tuple(frames[:n_frames]), death_code=code)


PROGRESS, NOTE_BYTES, PLACES = Format("=12Q"), 936, Format("=29Q")

# ---- what they say by their sockets --------------------------------------------------------------------------

STARTED, ENDED, CONFINED, FORKED = 1, 2, 3, 4
"""Kinds of a notice. After a request the kind is the size of the reply in bytes, or negative."""
UNFIT = -3
"""The kind of a notice: a kernel fault cannot be set up, or not be taken away."""
CHANGED, BLIND = 1, 2
"""``enum vv_state``."""
UNABLE_TO_ANSWER = 4
"""A worker's exit status."""


class Notice(NamedTuple):
    """``struct notice`` of serve.c."""

    kind: int
    value: int


NOTICE, LENGTH, GRANT = Format("=2q"), Format("=Q"), Format("=qQ")
"""A notice, the length of a request, and ``struct vv_grant``."""
