"""meshcore beside Envoy, HAProxy and nginx on one machine: `make bench-load`."""
