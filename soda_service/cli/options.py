"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; else $SODA_CONFIG, else the defaults."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]


def path_or_url(text: str) -> Path | str:
    """A path of this machine, or the URL of something in a store."""
    from soda_service.storage.source import is_remote

    return text if is_remote(text) else _local_path(text)


def _local_path(text: str) -> Path:
    from urllib.parse import unquote, urlsplit

    from soda_service.config import without_secrets
    from soda_service.errors import UsageError

    got = f"got {without_secrets(text)!r}"
    if text[:5].lower() == "file:":
        try:
            return Path(unquote(urlsplit(text).path))
        except ValueError:
            raise UsageError(f"a URL of a file is file:///PATH, {got}") from None
    if "://" in text:
        raise UsageError(
            f"only files, folders and URLs of s3, gs, az, http and https can be read, {got}"
        )
    return Path(text)
