"""What several workers cost, and what changes under load cost: `make bench-workers`."""
