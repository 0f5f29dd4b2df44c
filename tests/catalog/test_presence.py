"""A catalog that is taken away from the service, or exchanged."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from support.turn import until

from soda_service.catalog import presence
from soda_service.catalog.presence import watched

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_catalog_that_goes_or_is_another_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to what is in it is no news."""
    monkeypatch.setattr(presence, "_LOOK_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    path, aside = tmp_path / "catalog.sqlite", tmp_path / "aside"
    path.write_text("a")

    def told() -> list[tuple[str, str]]:
        return [(one.levelname, one.getMessage()) for one in caplog.records]

    with watched(path):
        path.write_text("more")
        path.rename(aside)
        until(told)
        aside.rename(path)
        until(lambda: len(told()) == 2)
        shutil.copyfile(path, aside)
        aside.replace(path)
        until(lambda: len(told()) == 3)
        path.rename(aside)
        until(lambda: len(told()) == 4)
        aside.rename(path)
        until(lambda: len(told()) == 5)
    levels = [level for level, _ in told()]
    assert levels == ["ERROR", "WARNING", "INFO", "ERROR", "WARNING"]
    gone, back, another, *again = (message for _, message in told())
    assert again == [gone, back]
    assert f"the catalog {path} is gone" in gone
    assert "soda-service ingest" in gone
    assert back == f"the catalog {path} is back"
    assert another == f"the catalog {path} is another file than before"
