"""The conventions that a case may assume: the document, their order, and what is no convention."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from case_texts import from_json
from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.report.case_text import case_rows
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment, check, in_world
from vfio_verify.values.conventions import conventions, in_order, supposed
from vfio_verify.values.cost import cost, oddities
from vfio_verify.worker.native import CONVENTIONS

INFO, LOOKUP, FD = conventions()
CASE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


def test_the_document_has_what_the_world_knows_in_its_order():
    assert tuple(conventions()) == CONVENTIONS


def test_each_says_what_is_supposed_what_qemu_has_and_what_the_world_does():
    for key, one in conventions().items():
        assert key == f"{one.name}={one.value}"
        assert re.fullmatch(r"[A-Za-z_.]+=\w+", key)
        assert one.name.rpartition(".")[2] in one.world
        assert one.qemu.endswith(".")
        assert not one.world.endswith(".")
        assert not one.supposed.endswith(".")


def test_they_are_put_in_order_each_once():
    for given in itertools.permutations(conventions()):
        assert in_order((*given, given[0])) == tuple(conventions())
    assert in_order([]) == ()


@pytest.mark.parametrize("wrong", ["", "vfio_device_lookup", "vfio_device_lookup=1", "no_such=true"])
def test_what_is_no_convention_is_refused_with_a_list_of_those_that_are(wrong):
    with pytest.raises(InputError, match=re.escape(f"no convention {wrong}; there are {', '.join(conventions())}")):
        in_order([INFO, wrong])


def test_one_name_is_assumed_to_be_one_thing(monkeypatch):
    other = replace(conventions()[INFO], value="false")
    monkeypatch.setitem(conventions(), other.key, other)
    with pytest.raises(InputError, match="vfio_device_get_region_info is assumed to be two things"):
        in_order([INFO, other.key])


def test_a_sentence_supposes_one_or_several():
    assert supposed([INFO]) == "If vfio_device_get_region_info() returned true on success"
    both = "If vfio_device_get_region_info() returned true on success and vfio_device_lookup() returned 0 on success"
    assert supposed([INFO, LOOKUP]) == both


# ---- in a case ------------------------------------------------------------------------------------------------


def test_a_case_has_them_in_its_json_only_where_there_are_some():
    assert b"assume" not in CASE.to_json()
    assumed = replace(CASE, assume=(INFO, FD))
    assert json.loads(assumed.to_json())["assume"] == [INFO, FD]
    assert from_json(assumed.to_json()) == assumed


@pytest.mark.parametrize("assume", [("x=1",), (LOOKUP, INFO), (INFO, INFO)])
def test_a_case_with_others_is_no_case(assume):
    with pytest.raises(InputError, match="convention"):
        check(replace(CASE, assume=assume))


def test_a_case_goes_to_another_world_with_those_before_it():
    moved = in_world(replace(CASE, earlier=(CASE, CASE)), (INFO,))
    assert {one.assume for one in (moved, *moved.earlier)} == {(INFO,)}


def test_a_world_s_conventions_are_no_oddity_of_a_case_and_no_two_cases_cost_the_same():
    assumed = replace(CASE, assume=(INFO,))
    assert oddities(assumed) == oddities(CASE)
    assert cost(assumed) != cost(CASE)


def test_a_case_says_what_its_world_does():
    rows = list(case_rows(replace(CASE, assume=(INFO, LOOKUP))))
    assert rows[-2:] == [("assumed", conventions()[key].world) for key in (INFO, LOOKUP)]
