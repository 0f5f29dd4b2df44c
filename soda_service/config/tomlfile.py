"""Files of TOML: how they are read, and what is said of what is wrong in them."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydantic import ValidationError

MOST_SHOWN: Final = 200
"""Characters of a wrong value that are shown."""

_SECRETS: Final = re.compile("//[^/@]*@")
"""Who may enter, and with which password, in a URL."""


def read_toml(path: Path) -> dict[str, Any]:
    """What is in the file *path*. Raises ConfigurationError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def first_problem(error: ValidationError, origin: str, known: Iterable[str] = ()) -> str:
    """The key, what is allowed, what came and where; *known* are keys that may be meant."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, 1)
        return f"{key} {origin} is not known" + (f"; is {near[0]} meant?" if near else "")
    if first["type"] == "missing":
        return f"{key} is missing {origin}"
    # pydantic: `Input should be …, unable to …`, or `Value error, …` for our own words.
    message = re.sub(r"^\w+ should ", "must ", first["msg"]).removeprefix("Value error, ")
    message = message.partition(", unable to")[0]
    said = f"{key} {message}" if message.startswith("must ") else f"{key}: {message}"
    got = _SECRETS.sub("//…@", repr(first["input"]))
    shown = "" if isinstance(first["input"], dict) else f", got {got:.{MOST_SHOWN}}"
    return f"{said.removeprefix(': ')}{shown} {origin}".rstrip()
