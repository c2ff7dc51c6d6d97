"""How grave a violation is, as the spec says. Pure."""

from __future__ import annotations

from vfio_verify.judge import Violation
from vfio_verify.values.spec import SEVERITIES, Severity, clauses


def severity(violation: Violation) -> Severity:
    """That of the violation or of the gravest of its consequences."""
    faulty = bool(violation.case.fault_plan) or violation.case.kernel_fault is not None
    each = (clauses()[one.clause].severity_of(one.cause, faulty=faulty) for one in violation.whole)
    return min(each, key=SEVERITIES.index)


def gravest_first(violation: Violation) -> tuple[int, int]:
    """To sort by: severity, and then the order of the spec."""
    return SEVERITIES.index(severity(violation)), list(clauses()).index(violation.clause)
