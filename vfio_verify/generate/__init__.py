"""Which cases are run, and under which faults."""
