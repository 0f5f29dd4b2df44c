"""Documents that leave as they are made: all of them, and never much ahead of the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from soda_service.web.responses import send_document
from soda_service.web.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any

CHUNK = 70_000


class _Client:
    """Takes what is sent, and notes how much more was made by then."""

    def __init__(self, chunks: int, *, leaves_after: int = 1 << 60) -> None:
        self._chunks = chunks
        self._leaves_after = leaves_after
        self._is_gone = asyncio.Event()
        self.made = 0
        self.taken = b""
        self.most_ahead = 0
        self.is_whole = False
        self.closed = False

    def chunks(self) -> Iterator[bytes]:
        try:
            for number in range(self._chunks):
                self.made += CHUNK
                yield bytes([number % 251]) * CHUNK
        finally:
            self.closed = True

    async def receive(self) -> MutableMapping[str, Any]:
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self.taken += message.get("body", b"")
            self.is_whole = not message.get("more_body", False)
            self.most_ahead = max(self.most_ahead, self.made - len(self.taken))
            if len(self.taken) >= self._leaves_after:
                self._is_gone.set()
            await asyncio.sleep(0)


def sent_to(client: _Client) -> _Client:
    """What became of a document of the client's chunks."""

    async def send() -> None:
        threads = Threads(2)
        try:
            scope = {"type": "http", "method": "GET"}
            await send_document(scope, client.receive, client.send, [], client.chunks(), threads)
        finally:
            threads.close()

    asyncio.run(send())
    return client


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 10, 11, 60])
def test_a_document_arrives_whole_and_is_made_as_it_goes(count: int) -> None:
    client = sent_to(_Client(count))
    assert client.is_whole
    assert client.closed
    assert client.taken == b"".join(bytes([number % 251]) * CHUNK for number in range(count))
    assert client.most_ahead <= 512 * 1024


def test_nothing_more_is_made_for_a_client_that_has_gone() -> None:
    client = sent_to(_Client(1000, leaves_after=1_000_000))
    assert client.made < 2_000_000
    assert client.closed
