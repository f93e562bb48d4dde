"""What happened, written down: the access log. Metrics are the core's."""
