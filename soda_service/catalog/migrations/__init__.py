"""The history of the catalog's schema; Alembic runs it inside the process that opens a catalog."""
