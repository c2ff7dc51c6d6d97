"""A case as a value: JSON both ways, what is refused and where, order and hashing."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from case_texts import from_json
from hypothesis import given
from hypothesis import strategies as st

from vfio_verify.errors import InputError
from vfio_verify.generate.strategies import cases
from vfio_verify.values.case import (
    MAX_SEGMENTS,
    PAGE,
    Area,
    Case,
    Device,
    Fault,
    Kernel,
    RamBlock,
    Region,
    Segment,
    check,
)

SPARSE = Region(2, 16 * PAGE, (Area(2 * PAGE, 3 * PAGE), Area(8 * PAGE, 4 * PAGE)), writable=False)
CASE = Case(
    devices=(
        Device((Region(0, 4 * PAGE), SPARSE), "areas"),
        Device((Region(9, 5 * PAGE, mappable=False),), region_fds=True),
    ),
    ram_blocks=(RamBlock(0, 0, 0), RamBlock(0, 2, 1), RamBlock(size=100)),
    iovec=(Segment(1, PAGE, 2 * PAGE), Segment(None, 17, 3), Segment(2, 99, 2**64 - 1)),
    total_size=7 * PAGE,
    fault_plan=(Fault("mmap", 2, "ENOMEM", "late", persistent=True), Fault("region_info", 1)),
    errp="null",
)
MINIMAL = Case((), (), (), 0)


def replaced(path: str, value: object) -> bytes:
    """The JSON of CASE with one thing changed; `path` as in ``devices.0.regions.1.size``."""
    whole = place = json.loads(CASE.to_json())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(whole).encode()


# ---- JSON --------------------------------------------------------------------------------------------------


def test_a_case_is_the_json_that_the_contract_describes():
    written = json.loads(CASE.to_json())
    assert written["schema"] == "vfio-verify/case@1"
    assert written["total_size"] == 7 * PAGE
    assert written["iovec"] == [
        {"block": 1, "offset": PAGE, "length": 2 * PAGE},
        {"block": None, "offset": 17, "length": 3},
        {"block": 2, "offset": 99, "length": 2**64 - 1},
    ]
    assert [region["index"] for device in written["devices"] for region in device["regions"]] == [0, 2, 9]
    assert written["ram_blocks"][2] == {"size": 100}
    assert written["fault_plan"][0] == {
        "step": "mmap",
        "nth": 2,
        "errno": "ENOMEM",
        "when": "late",
        "persistent": True,
    }


def test_a_case_is_one_line_of_json():
    assert b"\n" not in CASE.to_json()


def test_a_case_with_earlier_calls_comes_back_from_json():
    case = msgspec.structs.replace(CASE, earlier=(MINIMAL, CASE))
    assert from_json(case.to_json()) == case


def test_json_is_read_with_fields_in_any_order():
    written = json.loads(CASE.to_json())
    assert from_json(json.dumps(dict(reversed(written.items())), indent=2)) == CASE


def faults() -> st.SearchStrategy[Fault]:
    return st.builds(Fault, errno=st.sampled_from(["ENOMEM", "EINVAL", "EIO"]), nth=st.integers(1, 2**62 - 1))


@given(cases(), st.lists(faults(), max_size=3), st.lists(cases(), max_size=2))
def test_every_case_comes_back_from_json_equal_and_writes_the_same_again(case, plan, earlier):
    case = msgspec.structs.replace(case, fault_plan=tuple(plan), earlier=tuple(earlier))
    again = from_json(case.to_json())
    assert again == case
    assert again.to_json() == case.to_json()
    assert hash(again) == hash(case)


def test_a_schema_of_another_version_is_refused():
    with pytest.raises(InputError, match="case@2"):
        from_json(replaced("schema", "vfio-verify/case@2"))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"schema":"vfio-verify/case@1"}', '{"schema":"\ud800"}', b"[" * 100_000],
    ids=["nothing", "cut off", "null", "a list", "not UTF-8", "no fields", "half a character", "deep"],
)
def test_what_is_no_case_is_an_input_error(text):
    with pytest.raises(InputError, match="not a corpus entry"):
        from_json(text)


def test_cases_nested_without_end_are_an_input_error():
    head, empty, _ = MINIMAL.to_json().partition(b'"earlier":[')
    head += empty
    with pytest.raises(InputError, match="not a corpus entry"):
        from_json(head * 20_000)


# ---- refusals name the place -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("iovec.1.length", -1),
        ("iovec.1.length", "4096"),
        ("iovec.0.block", -1),
        ("iovec.0.offset", 1 << 62),
        ("devices.0.regions.0.size", 0),
        ("devices.0.regions.1.size", (1 << 40) + 1),
        ("devices.1.regions.0.index", 1 << 19),
        ("devices.0.mmap_rule", "none"),
        ("fault_plan.0.step", "open"),
        ("fault_plan.1.nth", 0),
        ("fault_plan.0.when", "never"),
        ("errp", "maybe"),
        ("total_size", -1),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_path(path, value):
    place = re.sub(r"\.(\d+)", r"[\1]", f"$.{path}")
    with pytest.raises(InputError, match=re.escape(f"`{place}`")):
        from_json(replaced(path, value))


@pytest.mark.parametrize("path", ["iovec.0.base", "totalsize", "devices.0.regions.0.bar"])
def test_a_field_that_a_case_does_not_have_is_refused_by_its_name(path):
    with pytest.raises(InputError, match=path.rpartition(".")[2]):
        from_json(replaced(path, 7))


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("iovec.1.block", 3, "segment 1: there is no RAM block 3"),
        ("iovec.0.offset", 4 * PAGE, "segment 0: an offset of 0x4000 is not below 0x4000"),
        ("iovec.1.offset", 1 << 30, "segment 1: an offset"),
        ("iovec.2.length", 1 << 64, r"2\*\*64"),
        ("total_size", 1 << 64, r"2\*\*64"),
        ("page_size", 2 * PAGE, "pages of 8192 bytes"),
        ("devices.0.regions.1.index", 0, "device 0: two regions with the same index"),
        ("devices.0.regions.1.offset", PAGE, "device 0: regions overlap in its file"),
        ("devices.0.regions.1.offset", PAGE + 8, "device 0, region 2: it cannot begin at 0x1008 of its file"),
        ("devices.0.regions.1.offset", (1 << 60) - PAGE, "device 0, region 2: it cannot begin"),
        ("devices.0.regions.1.msix", "cut", "device 0, region 2: its areas are not all but the MSI-X table"),
        ("devices.0.regions.1.msix", "mappable", "device 0, region 2: it has areas, and a mappable MSI-X table"),
        ("devices.0.regions.0.msix", "cut", "device 0, region 0: its areas are not all"),
        ("ram_blocks.0.touches", True, "RAM block 0 touches one before it"),
        ("devices.0.region_files", True, "device 0: files of regions need descriptors of them"),
        ("devices.0.mmap_rule", "file", "device 0: its regions are not in ordinary files"),
        ("devices.0.regions.1.areas.0.offset", 1, "device 0, region 2: areas"),
        ("devices.0.regions.1.areas.0.size", 7 * PAGE, "device 0, region 2: areas"),
        ("devices.0.regions.1.areas.1.size", 9 * PAGE, "device 0, region 2: areas"),
        ("ram_blocks.0.device", 2, "RAM block 0: there is no device 2"),
        ("ram_blocks.0.device", -1, "RAM block 0: there is no device -1"),
        ("ram_blocks.0.region", 1, "RAM block 0: device 0 has no region 1"),
        ("ram_blocks.0.region", None, "RAM block 0: device 0 has no region None"),
        ("ram_blocks.1.area", 2, "RAM block 1: region 2 has 2 mmap areas"),
        ("ram_blocks.1.area", -1, "RAM block 1: region 2 has 2 mmap areas"),
        ("ram_blocks.1.area", None, "RAM block 1: region 2 has 2 mmap areas"),
        ("ram_blocks.1.size", PAGE, "RAM block 1: its size is its area's"),
        ("ram_blocks.2.size", None, "RAM block 2: plain RAM needs a size"),
        ("ram_blocks.2.area", 0, "RAM block 2: a region needs a device"),
        ("fault_plan.0.errno", "ENOSUCH", "ENOSUCH"),
        ("fault_plan.0.errno", "errorcode", "errorcode"),
    ],
)
def test_a_reference_that_does_not_hold_is_refused_with_its_place(path, value, place):
    with pytest.raises(InputError, match=place):
        check(from_json(replaced(path, value)))  # reading leaves a case for other pages unchecked


def test_a_block_of_a_region_that_cannot_be_mapped_is_refused():
    case = msgspec.structs.replace(CASE, ram_blocks=(*CASE.ram_blocks, RamBlock(1, 9, 0)))
    with pytest.raises(InputError, match="RAM block 3: region 9 has 0 mmap areas"):
        check(case)


def test_regions_may_begin_anywhere_in_their_file_and_share_a_place_in_files_of_their_own():
    apart = (Region(0, PAGE + 1, offset=5 * PAGE), Region(3, 3 * PAGE, offset=0), Region(4, PAGE, offset=3 * PAGE))
    check(Case((Device(apart),), (), (), 0))
    together = tuple(msgspec.structs.replace(region, offset=PAGE) for region in apart)
    check(Case((Device(together, "file", region_fds=True, region_files=True),), (), (), 0))
    with pytest.raises(InputError, match="regions overlap"):
        check(Case((Device(together, "file", region_fds=True),), (), (), 0))


@pytest.mark.parametrize(
    ("areas", "right"),
    [
        ([(2, 4)], True),
        ([(0, 3)], True),
        ([(0, 1), (2, 4)], True),
        ([(0, 1), (4, 2)], True),
        ([(0, 6)], False),
        ([(1, 4)], False),
        ([(0, 1), (2, 3)], False),
        ([(0, 1), (1, 2), (4, 2)], False),
        ([], False),
    ],
)
def test_what_qemu_leaves_around_an_msix_table_is_all_of_the_region_but_for_one_piece(areas, right):
    region = Region(1, 6 * PAGE, tuple(Area(at * PAGE, size * PAGE) for at, size in areas), msix="cut")
    case = Case((Device((region,)),), (), (), 0)
    if right:
        check(case)
        assert from_json(case.to_json()) == case
    else:
        with pytest.raises(InputError, match="MSI-X"):
            check(case)


def test_what_a_device_has_not_is_not_written():
    written = json.loads(CASE.to_json())
    assert [set(device) for device in written["devices"]] == [{"regions", "mmap_rule", "region_fds"}] * 2


ONE = Device((Region(0, PAGE),))


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (Case((ONE,) * 5, (), (), 0), "5 devices; a world holds at most 4"),
        (Case((Device(tuple(Region(i, PAGE) for i in range(65))),), (), (), 0), "65 regions"),
        (
            Case((Device((Region(0, 600 * PAGE, tuple(Area(2 * i * PAGE, PAGE) for i in range(257))),)),), (), (), 0),
            "257 areas",
        ),
        (
            Case((Device(tuple(Region(i, PAGE) for i in range(9)), "file", True, True),), (), (), 0),
            "9 files of regions; a world holds at most 8",
        ),
        (Case((), (RamBlock(size=PAGE),) * 257, (), 0), "257 RAM blocks"),
        (Case((ONE,), (RamBlock(0, 0, 0),), (Segment(0, 0, 1),) * (MAX_SEGMENTS + 1), 0), "65537 segments"),
        (Case((), (RamBlock(size=1 << 40),) * 9, (), 0), "RAM blocks"),
    ],
    ids=["devices", "regions", "areas", "files", "blocks", "segments", "bytes of blocks"],
)
def test_more_than_a_world_holds_is_refused(case, what):
    with pytest.raises(InputError, match=what):
        check(case)


def test_as_much_as_a_world_holds_is_accepted():
    check(Case((ONE,) * 4, (RamBlock(size=PAGE),) * 256, (Segment(255, 0, 1),) * MAX_SEGMENTS, 2**64 - 1))


def test_an_earlier_case_is_checked_too_and_has_none_of_its_own():
    broken = msgspec.structs.replace(MINIMAL, iovec=(Segment(0, 0, 1),))
    with pytest.raises(InputError, match="no RAM block 0"):
        check(msgspec.structs.replace(CASE, earlier=(MINIMAL, broken)))
    nested = msgspec.structs.replace(CASE, earlier=(msgspec.structs.replace(CASE, earlier=(CASE,)),))
    with pytest.raises(InputError, match="earlier"):
        check(nested)


# ---- a value -----------------------------------------------------------------------------------------------


def test_a_case_cannot_be_changed():
    with pytest.raises(AttributeError):
        CASE.total_size = 1  # type: ignore[misc]


def test_cases_compare_field_by_field():
    smaller = msgspec.structs.replace(CASE, total_size=CASE.total_size - 1)
    longer = msgspec.structs.replace(CASE, iovec=(*CASE.iovec, Segment(0, 0, 1)))
    assert smaller < CASE < longer
    assert sorted([longer, CASE, MINIMAL, smaller]) == [MINIMAL, smaller, CASE, longer]


@given(cases(), cases())
def test_equal_cases_and_no_others_are_one_member_of_a_set(one, other):
    assert (one == other) == (one.to_json() == other.to_json()) == (len({one, other}) == 1)


@given(cases(), st.lists(faults(), max_size=3))
def test_a_fault_plan_can_be_given_and_taken_away_again(case, plan):
    faulty = case.with_faults(*plan)
    assert faulty.fault_plan == tuple(plan)
    assert faulty.without_faults() == case


def test_a_block_has_the_size_of_its_area_or_its_own_in_whole_pages():
    assert [CASE.block_size(i) for i in range(3)] == [4 * PAGE, 4 * PAGE, PAGE]
    assert CASE.area_of(1) == Area(8 * PAGE, 4 * PAGE)
    assert CASE.area_of(0) == Area(0, 4 * PAGE)
    assert CASE.area_of(2) is None
    assert CASE.region_of(1) == SPARSE
    assert CASE.region_of(2) is None


def test_a_region_without_the_mmap_flag_has_no_areas_to_map():
    assert Region(0, PAGE, (Area(0, PAGE),), mappable=False).mmap_areas() == ()


def test_an_ordinary_kernel_is_not_written_however_it_was_made() -> None:
    case = Case((), (), (), 0)
    assert b"kernel" not in msgspec.structs.replace(case, kernel=Kernel()).to_json()
    assert b"kernel" not in from_json(case.to_json()[:-1] + b',"kernel":{}}').to_json()
