"""One protocol per file; the file name is the protocol."""
