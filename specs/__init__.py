"""The clauses as package data, read as `vfio_verify.specs`."""
