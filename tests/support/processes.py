"""Other processes, as the kernel sees them."""

from __future__ import annotations

from pathlib import Path


def state_of(process: int) -> str:
    """The letter that the kernel has for its state, Z of one that has ended; "" of none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends meanwhile
        return ""


def has_ended(process: int) -> bool:
    """Whether it runs no more; nobody need have asked how it ended."""
    return state_of(process) in {"", "Z"}


def children_of(process: int) -> list[int]:
    """In the order in which they were started."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(one) for one in found.split()]
