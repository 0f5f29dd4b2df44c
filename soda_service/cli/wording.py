"""Numbers and places in sentences."""

from __future__ import annotations

import os


def counted(number: int, noun: str) -> str:
    """*number* and *noun*, which takes an s unless it is one of them."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(place: str) -> str:
    """*place*, a path or a URL, without the password of one that was meant as a URL and is none.

    What is there is called by its name, whatever letters that has, and so is what a store may
    have: nothing before its first slash can be a password.
    """
    from soda_service.config import without_secrets
    from soda_service.errors import ConfigurationError
    from soda_service.storage.remoteplace import place_of

    try:
        place_of(place)
    except ConfigurationError:
        return place if os.path.lexists(place) else without_secrets(place)
    return place
