"""Which threads answer for links: reading a changed file is long work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.images import write_family
from support.service import running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile, Settings
from soda_service.web.services import Services

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_links_of_a_changed_file_are_long_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("tan", "fk5"):
        write_family(name, folder)
    settings = Settings(
        catalog=f"sqlite:///{tmp_path}/catalog.sqlite",
        cache_dir=tmp_path / "cache",
        authority="archive.example",
    )
    ingest([folder], settings, CollectionsFile(), workers=1)
    calls: list[str] = []

    def make(settings: Settings) -> Services:
        services = Services.of(settings)
        for name in ("threads", "long_work"):
            threads = getattr(services, name)

            def spied(*args: object, own: object = threads.call, called: str = name) -> object:
                if "answer" in getattr(args[0], "__name__", ""):  # and not what sends the chunks
                    calls.append(called)
                return own(*args)  # type: ignore[operator] # the pool's own method

            monkeypatch.setattr(threads, "call", spied)
        return services

    tan, fk5 = (f"ivo://archive.example/data?{name}.fits" for name in ("tan", "fk5"))
    with running(create_app(settings, make_services=make)) as live:
        assert "NotFoundFault" in live.get("/datalink/links", ID=[tan, "ivo://x/y?z"]).text
        assert calls == ["threads"]
        calls.clear()
        (folder / "tan.fits").write_bytes((folder / "fk5.fits").read_bytes())
        assert live.get("/datalink/links", ID=fk5).status_code == 200
        assert calls == ["threads"]
        calls.clear()
        changed = live.get("/datalink/links", ID=tan)
        assert calls == ["threads", "long_work"]
        assert str((folder / "fk5.fits").stat().st_size) in changed.text
        calls.clear()
        assert live.get("/datalink/links", ID=tan).content == changed.content
        assert calls == ["threads"]
