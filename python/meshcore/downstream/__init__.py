"""The way in: listeners accept, protocols turn reads into exchanges."""
