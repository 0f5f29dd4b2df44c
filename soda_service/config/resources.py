"""Files that come with an installation."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def resource_path(name: str) -> Path:
    """The file or folder *name* (`config/soda.toml`, `votable_templates`…) of this installation.

    In a wheel it lies inside the package; in a checkout, at the top of the repository.
    """
    package = Path(str(resources.files("soda_service")))
    inside = package / "resources" / name
    return inside if inside.exists() else package.resolve().parent / name
