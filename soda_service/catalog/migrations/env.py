"""What Alembic runs around the revisions: the caller's connection and transaction are used."""

from alembic import context

from soda_service.catalog.schema import metadata


def _run() -> None:
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


_run()
