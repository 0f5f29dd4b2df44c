"""Golden files: documents and headers as text, to be read by people when they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Golden:
    """The folder of golden files."""

    folder: Path
    is_updating: bool

    def check(self, name: str, seen: bytes | str) -> None:
        """*seen* is what the file *name* says; with --update-golden the file is written instead."""
        text = seen.decode() if isinstance(seen, bytes) else seen
        path = self.folder / name
        if self.is_updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}: run pytest with --update-golden"
        assert path.read_text(encoding="utf-8") == text
