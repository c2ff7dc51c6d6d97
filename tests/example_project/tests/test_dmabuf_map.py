"""Two ways to verify a helper: by the clauses of the spec, and by properties of one's own."""

import pytest
from hypothesis import example, settings

from vfio_verify.pytest_plugin import verifies
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.model import expect

TWICE = Case((Device((Region(2, PAGE),)),), (RamBlock(0, 2, 0),), (Segment(0, 0, PAGE),) * 2, 2 * PAGE)


# A test for each clause: test_the_helper_conforms[CONTENTS], ...
@verifies()
def test_the_helper_conforms():
    return "src/dmabuf_map.c"


# The ones that matter here, on more layouts.
@verifies("CONTENTS", "UNMAP_ON_ERROR", examples=300)
def test_what_the_guest_sees():
    return "src/dmabuf_map.c"


# Layouts drawn by Hypothesis, a run in a fresh process each.
def test_the_guest_gets_all_that_it_may_have(vfio_case, vfio_run):
    run = vfio_run(vfio_case)
    assert run.mapped or not expect(vfio_case).must_map


# @settings and @example are Hypothesis's own.
@settings(max_examples=30)
@example(vfio_case=TWICE)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_device_that_refuses_is_survived(vfio_case, vfio_run, nth):
    run = vfio_run(vfio_case.with_faults(Fault("mmap", nth, "ENODEV", "late")))
    assert not run.violated
