"""The hall: one object per request, driven by calls, sans I/O."""
