"""Published records."""
