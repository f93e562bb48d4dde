"""A mesh to look at: `make demo`."""
