"""What is held open until somebody lets go of it, or until the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Closable(ABC):
    """Closed at the end of its `with` block, whatever happens in it."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held open; a second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
