"""One method per file; the file name is the method."""
