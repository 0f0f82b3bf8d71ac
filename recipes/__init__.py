"""Whole curations as data: TOML files for `winnow init --like NAME`."""
