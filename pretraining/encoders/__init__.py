"""One encoder module per file, chosen by a recipe."""
