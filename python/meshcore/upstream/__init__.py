"""The way out: clusters and pools decide, the connector opens what they ask for."""
