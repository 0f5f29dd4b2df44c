"""A live service over a few files and a cutter that does as told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.scripted import Archive, ScriptedService, serving, write_archive

from soda_service.web.connection import LimitedHttp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from support.service import LiveService


@pytest.fixture(name="archive", scope="session")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(name="scripted", scope="session")
def _scripted(
    archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScriptedService]:
    """One service for all tests that need no settings of their own."""
    with serving(archive, tmp_path_factory.mktemp("catalog")) as service:
        yield service


@pytest.fixture(name="live")
def _live(scripted: ScriptedService) -> LiveService:
    return scripted.live


@pytest.fixture(name="serve")
def _serve(
    archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[LiveService]]:
    """Starts a service with settings of its own."""

    @contextmanager
    def serve(
        *,
        is_empty: bool = False,
        protocol: type[LimitedHttp] = LimitedHttp,
        buffer_bytes: int | None = None,
        **changes: object,
    ) -> Iterator[LiveService]:
        folder = tmp_path_factory.mktemp("catalog")
        with serving(
            archive,
            folder,
            is_empty=is_empty,
            protocol=protocol,
            buffer_bytes=buffer_bytes,
            **changes,
        ) as service:
            yield service.live

    return serve
