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

_SECRETS: Final = re.compile("(://|//|:).*@", re.DOTALL)
"""Who may enter, and with which password, in a URL or what was meant as one.

To the last @, whatever is between: a password may hold any character, also where it should
have been quoted.
"""

_SAID_NEVER: Final = frozenset({"options", "secrets"})
"""Tables of a store whose values may be secrets as a whole."""


def without_secrets(text: str) -> str:
    """*text*, which an operator wrote, without a password that may be in it."""
    return _SECRETS.sub(r"\1…@", text)


def read_toml(path: Path, *, if_absent: str = "") -> dict[str, Any]:
    """What is in the file *path*. Raises ConfigurationError; *if_absent* says more there."""
    shown = without_secrets(str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        said = f"there is no {shown}: {if_absent}" if if_absent else None
        raise ConfigurationError(said or f"cannot read {shown}: {error.strerror}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {shown}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{shown} is not TOML: {error}") from None


def first_problem(error: ValidationError, origin: str, known: Iterable[str] = ()) -> str:
    """The key, what is allowed, what came and where; *known* are keys that may be meant."""
    first = error.errors(include_url=False)[0]
    key = without_secrets(".".join(str(part) for part in first["loc"]))
    origin = without_secrets(origin)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, 1)
        return f"{key} {origin} is not known" + (f"; is {near[0]} meant?" if near else "")
    if first["type"] == "missing":
        return f"{key} is missing {origin}"
    # pydantic: `Input should be …, unable to …`, or `Value error, …` for our own words.
    message = re.sub(r"^\w+ should ", "must ", first["msg"]).removeprefix("Value error, ")
    message = message.partition(", unable to")[0]
    if first["type"] == "value_error":  # those of pydantic's own have patterns, but no values
        message = without_secrets(message)
    said = f"{key} {message}" if message.startswith("must ") else f"{key}: {message}"
    is_kept = isinstance(first["input"], dict) or not _SAID_NEVER.isdisjoint(first["loc"])
    shown = "" if is_kept else f", got {without_secrets(repr(first['input'])):.{MOST_SHOWN}}"
    return f"{said.removeprefix(': ')}{shown} {origin}".rstrip()
