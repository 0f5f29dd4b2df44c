"""The demo archive: one invented field, seen by several imagined instruments."""
