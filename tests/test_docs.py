"""The reference names everything that there is: what is not documented does not exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from support.checkout import ROOT, require_checkout

from soda_service import cli
from soda_service.app import create_app
from soda_service.config import CollectionConfig, Settings
from soda_service.web import params

require_checkout()

REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_reference(name: str) -> None:
    """By its name and its default, in the table of settings."""
    shipped = (ROOT / "config" / "soda.toml").read_text(encoding="utf-8")
    default = re.search(rf"^{name} = (.*)$", shipped, flags=re.MULTILINE)
    assert default is not None
    assert f"| `{name}` | `{default[1]}` |" in REFERENCE


@pytest.mark.parametrize("name", sorted(CollectionConfig.model_fields))
def test_every_setting_of_a_collection_is_in_the_reference(name: str) -> None:
    """By its name."""
    assert f"`{name}`" in REFERENCE


def test_every_endpoint_is_in_the_reference() -> None:
    """By its path."""
    app = create_app(Settings())
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    assert len(paths) > 10
    missing = {path for path in paths if f"`{path.partition('{')[0]}" not in REFERENCE}
    assert missing == set()


def test_every_parameter_is_in_the_reference() -> None:
    """By the name that the edge knows it by."""
    source = Path(params.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'"([A-Z]{2,})"', source)) - {"POST"}
    assert {"ID", "CIRCLE", "MAXREC", "CUTOUTDETAIL"} <= names
    missing = {name for name in names if f"`{name}`" not in REFERENCE}
    assert missing == set()


def test_every_command_and_option_is_in_the_reference() -> None:
    """Options too."""
    group: Any = typer.main.get_command(cli.app)
    assert len(group.commands) >= 5
    for name, command in group.commands.items():
        assert f"soda-service {name}" in REFERENCE
        for parameter in command.params:
            for option in (one for one in parameter.opts if one.startswith("--")):
                assert option in REFERENCE, f"{name} {option}"


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of README and docs/ is a file that is there."""
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 8
    for document in documents:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_configuration_examples_are_understood() -> None:
    """The collection that the documentation describes is one that the code accepts."""
    for name in ("serving-your-own-files.md", "files-in-a-bucket.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
        assert blocks
        for block in blocks:
            for config in tomllib.loads(block)["collections"].values():
                CollectionConfig(**config)
