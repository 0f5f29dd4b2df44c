"""What runs the service elsewhere: the image, the compose file, and the Makefile's first steps."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest
import yaml
from support.checkout import ROOT, require_checkout
from support.programs import require_program

from soda_service.config import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings, load_settings
from soda_service.demo.archive import MARKER

if TYPE_CHECKING:
    from pathlib import Path

require_checkout()

_SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "build", "command", "volumes"],
    "properties": {
        "build": {"const": "."},
        "image": {"type": "string"},
        "command": {"type": "array", "items": {"type": "string"}},
        "volumes": {"type": "array", "items": {"pattern": "^[a-z/]+:/[a-z]+(:ro)?$"}},
        "environment": {
            "type": "object",
            "propertyNames": {
                "enum": [
                    CONFIG_VARIABLE,
                    *(f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields),
                ]
            },
            "additionalProperties": {"type": "string"},
        },
        "ports": {"type": "array", "items": {"pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "properties": {"condition": {"const": "service_completed_successfully"}},
                "required": ["condition"],
                "additionalProperties": False,
            },
        },
        "user": {"type": "string"},
        "read_only": {"type": "boolean"},
        "tmpfs": {"type": "array", "items": {"type": "string"}},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "stop_grace_period": {"pattern": r"^\d+s$"},
        "logging": {"const": {"driver": "local"}},
        "restart": {"enum": ["no", "unless-stopped"]},
    },
}

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services", "volumes"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": _SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
}


@pytest.fixture(name="compose")
def _compose() -> dict[str, Any]:
    return _composed()


def _composed(**variables: str) -> dict[str, Any]:
    """The compose file, its `${NAME:-default}` replaced by what a shell exports as *variables*."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    replaced = re.sub(r"\$\{(\w+):-(.*?)\}", lambda one: variables.get(one[1]) or one[2], text)
    assert "${" not in replaced
    # Compose hands on an empty value as an empty text, where YAML reads a null.
    replaced = re.sub(r"(?m)^( +SODA_\w+:) *$", r'\1 ""', replaced)
    loaded: dict[str, Any] = yaml.safe_load(replaced)
    return loaded


@pytest.fixture(name="instructions")
def _instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.strip().partition(" ") for line in lines)]


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, SCHEMA)
    for service in compose["services"].values():
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
        for needed in service.get("depends_on", {}):
            assert needed in compose["services"]


def test_the_documented_way_serves_own_files_without_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands name services, options and variables that are there."""
    guide = (ROOT / "docs" / "serving-your-own-files.md").read_text("utf-8")
    block = re.search(r"## In containers\n.*?```sh\n(.*?)```", guide, re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    (export,) = [line for line in lines if line.startswith("export ")]
    variables = dict(word.split("=", 1) for word in export.split()[1:])
    compose = _composed(**variables)
    jsonschema.validate(compose, SCHEMA)

    service = compose["services"]["soda-service"]
    assert f"{variables['FITS_FOLDER']}:/data:ro" in service["volumes"]
    assert "data:/data" in compose["services"]["ingest-demo"]["volumes"]
    started = [line.split() for line in lines if re.match(r"docker compose (run|up)", line)]
    assert [words[2] for words in started] == ["run", "up"]
    for words in started:
        assert "--no-deps" in words
        assert "soda-service" in words[3:]
    ingest = started[0][started[0].index("soda-service") + 1 :]
    assert ingest[:2] == ["ingest", "/data"]

    # A settings file counts where the shell says nothing else.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "soda.toml").write_text('authority = "file.example"\nport = 8081\n')
    for exported, authority in ((variables, "archive.example"), ({}, "file.example")):
        said = _composed(**exported, SODA_CONFIG=str(tmp_path / "soda.toml"))
        for name, value in said["services"]["soda-service"]["environment"].items():
            monkeypatch.setenv(name, value)
        settings = load_settings(None)
        assert (settings.authority, settings.port) == (authority, 8081)
    assert settings.public_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("exported", [{}, {"SODA_AUTHORITY": "archive.example"}])
def test_the_demo_is_ingested_under_the_authority_that_serves_it(exported: dict[str, str]) -> None:
    """Otherwise the links to its files would fail."""
    services = _composed(**exported)["services"].values()
    (authority,) = {service["environment"]["SODA_AUTHORITY"] for service in services}
    assert authority == exported.get("SODA_AUTHORITY", "")


def test_a_stopped_container_may_finish_its_answers(compose: dict[str, Any]) -> None:
    from soda_service.server import _LAST_ANSWERS_SECONDS

    grace = int(compose["services"]["soda-service"]["stop_grace_period"].removesuffix("s"))
    assert grace > _LAST_ANSWERS_SECONDS


def test_commands_are_those_of_the_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        name, *options = service["command"]
        ended = subprocess.run(
            [sys.executable, "-m", "soda_service", name, "--help"],
            capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        for option in options:
            if option.startswith("--"):
                assert option in ended.stdout


def test_the_image_installs_as_make_does(instructions: list[tuple[str, str]]) -> None:
    """The same constraints on the same package, in an environment of the same name."""
    (made,) = [rest for name, rest in instructions if name == "RUN" and "venv" in rest]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    install = re.search(r"pip install (.*) --editable \.$", makefile, re.MULTILINE)
    assert install is not None
    assert "python -m venv .venv" in made
    in_image = made.partition("pip install ")[2].replace("--no-cache-dir ", "")
    assert in_image == f"{install[1]} ."


def test_the_image_is_given_what_it_copies_and_all_that_the_package_needs(
    instructions: list[tuple[str, str]],
) -> None:
    copied = {one for name, rest in instructions if name == "COPY" for one in rest.split()[:-1]}
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert copied == let_in
    assert all((ROOT / one).exists() for one in copied)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    forced = re.search(r"force-include\]\n((?:\".*\n)+)", project)
    assert forced is not None
    assert set(re.findall(r'^"([^"]+)"', forced[1], re.MULTILINE)) <= copied
    kept_out = [line for line in lines if line.startswith("**/")]
    assert any(fnmatch.fnmatch("soda_service/__pycache__", line) for line in kept_out)


class _Health(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_health_check_asks_the_port_of_the_settings(
    instructions: list[tuple[str, str]],
) -> None:
    (check,) = [rest for name, rest in instructions if name == "HEALTHCHECK"]
    _, _, command = check.partition("CMD ")
    python, *arguments = json.loads(command)
    assert python == "python"
    _Health.asked.clear()
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {**os.environ, "SODA_PORT": str(server.server_port)}
        subprocess.run([sys.executable, *arguments], env=environment, check=True)
        server.shutdown()
    assert _Health.asked == ["/health"]
    ended = subprocess.run(
        [sys.executable, *arguments], env=environment, check=False, capture_output=True
    )
    assert ended.returncode != 0


class TestMake:
    """The first steps, where they fail."""

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            pytest.param(
                'case "$1" in -c) exit 1;; -V) echo Python 3.9.2;; *) mkdir -p .venv/bin;; esac',
                "3.11 or later", id="old",
            ),
            pytest.param(
                'case "$1" in -c) exit 0;; *) mkdir -p .venv/bin; touch .venv/bin/python; exit 1;;'
                " esac",
                "python3-venv", id="no venv",
            ),
            pytest.param(None, "no ./python here", id="none"),
        ],
    )  # fmt: skip
    def test_a_failure_is_told_and_leaves_nothing(
        self, tmp_path: Path, script: str | None, said: str
    ) -> None:
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
        if script is not None:
            (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "python").chmod(0o755)
        ended = subprocess.run(
            [require_program("make"), "PYTHON=./python", "demo"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode != 0
        assert said in ended.stderr
        assert not (tmp_path / ".venv").exists()

    def test_clean_removes_no_folder_that_is_not_the_demos(self, tmp_path: Path) -> None:
        for name in ("own", "archive"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "truth.csv").write_text("1")
        (tmp_path / "archive" / MARKER).write_text("{}")
        for name in ("own", "archive", "nothing"):
            command = [require_program("make"), "-f", str(ROOT / "Makefile"), "clean"]
            ended = subprocess.run(
                [*command, f"DEMO_DIR={name}"],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
            assert ("own stays: it is not a demo archive" in ended.stderr) == (name == "own")
        assert (tmp_path / "own" / "truth.csv").read_text() == "1"
        assert [one.name for one in tmp_path.iterdir()] == ["own"]
