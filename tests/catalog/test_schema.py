"""The tables, the migrations that make them, and files that are not a catalog."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from soda_service.catalog import migrations
from soda_service.catalog.database import Database
from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.schema import HEAD, dataset, metadata
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_migrations_make_the_tables_that_the_code_describes(tmp_path: Path) -> None:
    Database(tmp_path / "catalog.sqlite").close()
    engine = create_engine(f"sqlite:///{tmp_path}/catalog.sqlite")
    with engine.connect() as connection:
        options = {"include_name": lambda name, *_: not str(name).startswith("piece_box")}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_every_obscore_column_is_stored() -> None:
    assert {field.name for field in fields(ObsCore)} <= set(dataset.c.keys())


def test_a_second_opening_finds_the_catalog_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "catalog.sqlite"
    Database(path).close()
    before = path.read_bytes()
    Database(path).close()
    assert path.read_bytes() == before


def test_processes_may_make_the_catalog_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from soda_service.catalog.database import Database;"
        "sys.stdin.read();"
        "Database(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "catalog.sqlite")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4


def _foreign(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE dataset (id INTEGER)"))
    engine.dispose()


def _later(path: Path) -> None:
    database = Database(path)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()


def _junk(path: Path) -> None:
    path.write_bytes(b"SIMPLE  =                    T".ljust(5760))


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_foreign, "not a catalog of this service"),
        (_later, "another version of the service"),
        (_junk, "not a database"),
        (_folder, "unable to open"),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "catalog.sqlite"
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Database(path)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before
