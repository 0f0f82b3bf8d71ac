"""What to measure and what to keep; no I/O."""
