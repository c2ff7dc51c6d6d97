"""The same checks inside a project's own tests: the pytest plugin, and what it stands on."""
