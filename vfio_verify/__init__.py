"""Finds faults in helpers that map VFIO-backed guest memory for a dmabuf.

The house, from the ground up. No room knows one above it (pyproject.toml, `tool.importlinter`):

    values     a case, what is expected of it by the model, what was seen of a run; the clauses of the spec
    generate   which cases are run, and under which faults
    worker     the process in which a subject runs, confined, and what goes to it and comes back
    subject    from a mail, a patch or a C file to a function that can be called
    judge      case, expectation and observation in, violations out: one function a clause
    trial      one case run and judged; a violation confirmed, and its case made small
    corpus     cases that are kept, in a directory or in Redis
    campaign   many cases, here or on other machines; kept ones replayed
    report     what comes out: text, JSON, JUnit, SARIF, annotations, a case drawn
    search     a campaign without an end: `vfio-verify fuzz`
    testing    the same inside a project's own tests, for `pytest_plugin`
    cli        the commands

Who looks for one thing begins with `values/case.py`, `judge/__init__.py` or `campaign/shard.py`. Beside the rooms
stand `core`, the helper as it should be, usable as a library, which none of them knows; `pytest_plugin`; and `errors`,
what can go wrong.
"""

__version__ = "0.1.0"
