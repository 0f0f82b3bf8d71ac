"""Bytes on disk: the store, its tables, shards and the sources; knows no method."""
