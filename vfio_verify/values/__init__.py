"""Frozen values and pure functions on them: a case, what is expected of it, and what was seen of a run."""
