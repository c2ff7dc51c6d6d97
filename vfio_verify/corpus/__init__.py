"""Cases that are kept: in a directory or in Redis, and the smallest set of them that exercises the same."""
