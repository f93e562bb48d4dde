"""The mesh's parts for use alone: from any thread, in sync and async code."""
