"""Finds faults in helpers that map VFIO-backed guest memory for a dmabuf.

The house, from the ground up; nothing imports upwards:

    spec          the clauses, read from specs/clauses.toml
    case          one test input, as a value
    observation   all that was seen of one run, as a value
    model         what is expected of a case
    judge, words  case, expectation and observation in, violations out
    space         what a sequence of calls leaves in the address space
    generate, long_lists, strategies, sweep   which cases are run, and under which faults
    sequences, thread_cases, kernel_faults   those with more calls, with calls at once, and that the kernel fails
    features, distribution        what they have that the spec speaks of, counted
    wire, thread_wire, worker, _world, sandbox   the process in which a subject runs, confined
    source, compiler, subject     what is verified: the core, or C code in any usual form
    source_line, debuginfo        the lines of its text, and which one an address in its library is of
    frontier, line_coverage       which cases reach new code of the subject, and what none reached
    shrink, campaign              many cases, and the smallest one for each violation
    remote, cluster               the same on other machines
    corpus, shared                cases that are kept
    report, text, cli             what comes out
    observe, events               what Hypothesis is told, for its own records
    harness, pytest_checks, pytest_plugin   the same for tests of one's own

Beside it stands `core`: the helper as it should be, usable as a library. Nothing above knows it but by name.
"""

__version__ = "0.1.0"
