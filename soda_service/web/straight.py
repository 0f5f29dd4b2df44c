"""Bodies that leave from where they lie: out of a mapped file into the client's socket.

ASGI has bodies copied into messages, and the server copies them once more into the kernel. Where
the scope's `extensions` have `STRAIGHT`, that is a function which gives buffers to the kernel at
once, as many bytes as it takes; those are a part of the body that is being sent. A message
with the key `WRITTEN` says how many there were.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

STRAIGHT: Final = "soda_service.straight"
WRITTEN: Final = "soda_service.written"


def write(cycle: RequestResponseCycle, buffers: Sequence[bytes | memoryview]) -> int:
    """Have the kernel take what it will of *buffers* for the client of *cycle*; never blocks.

    How many bytes it took: 0 while it still has to take what was sent before, where the
    client has gone, and where these bytes do not go over the socket as they are. They are at
    most as many as the system takes in one call (IOV_MAX).
    """
    transport = cycle.transport
    if (
        not cycle.response_started
        or cycle.response_complete
        or cycle.disconnected
        or cycle.chunked_encoding
        or cycle.scope["method"] == "HEAD"
        or transport.is_closing()
        or transport.get_write_buffer_size()
        or transport.get_extra_info("sslcontext") is not None
        or sum(map(len, buffers)) > cycle.expected_content_length
    ):
        return 0
    try:
        taken = os.writev(transport.get_extra_info("socket").fileno(), buffers)
    except OSError:
        # It is full, or what is wrong the transport meets, too.
        return 0
    cycle.expected_content_length -= taken
    return taken
