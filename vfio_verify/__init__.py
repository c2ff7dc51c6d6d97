"""Finds faults in helpers that map VFIO-backed guest memory for a dmabuf.

The rooms of the house, from the ground up. None imports from one above it (`tool.importlinter` in pyproject.toml):

    values     a case, what is expected of it by the model, what was seen of a run; the clauses of the spec
    generate   which cases are run, and under which faults
    worker     the confined process in which a subject runs, what goes to it and what comes back
    subject    from a mail, a patch or a C file to a function that can be called
    judge      case, expectation and observation in, violations out: one function a clause
    trial      one case run and judged; a violation confirmed, and its case made small
    corpus     kept cases, in a directory or in Redis
    campaign   many cases, on this machine or on others; kept ones replayed
    prove      the clauses decided for every value at once, by CBMC and a model in C (`specs/model`)
    report     what comes out: text, JSON, JUnit, SARIF, annotations, a case drawn
    search     a campaign without an end: `vfio-verify fuzz`
    testing    campaigns and single runs inside a project's own tests, for `pytest_plugin`
    cli        the commands, one module each

Good places to begin are `values/case.py`, `judge/__init__.py` and `campaign/shard.py`. Beside the rooms stand `core`,
the helper as it should be and a library of its own, which none of them imports; `pytest_plugin`; and `errors`, what can
go wrong. The C of the world, in which a subject runs, has layers of its own: `pyx/world/layers.txt`.
"""

__version__ = "0.1.0"
