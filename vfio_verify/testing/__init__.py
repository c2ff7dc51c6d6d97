"""Checks inside a project's own tests: what the pytest plugin stands on."""
