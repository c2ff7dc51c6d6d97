"""A campaign without an end: `vfio-verify fuzz`."""
