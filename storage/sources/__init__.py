"""One kind of source per file: raw formats to records."""
