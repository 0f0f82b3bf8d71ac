"""One objective per file; the file name is the objective."""
