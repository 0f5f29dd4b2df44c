"""A file that is mapped into memory: what of it is there, and what happens when it goes.

A mapped page that lies behind the end of a file that was truncated, or on a disk that fails,
kills the process with SIGBUS when it is touched. Asking first is not enough: the file may be
truncated between the question and the copy, and where the page cache holds several pages as
one folio, those behind the new end are said to be there. So this module handles the signal.
It puts zeros where the mapping has nothing any more, the copy goes on to its end, and who made
it sees that the mapping `is_torn` and throws the copy away.

The handler is Python. Others must not be, for a signal may come while the interpreter or the
allocator is in the middle of something. This one comes from the very instruction that touches
the page, which is one of a copy, where neither is.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE: Final = mmap.PAGESIZE

# The interpreter's lock is kept: these calls take a microsecond and never wait for a disk.
_libc: Final = ctypes.PyDLL(None)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
# In a thread it is let go of: where another one maps or unmaps memory meanwhile, one waits.
_mincore_in_thread: Final = ctypes.CDLL(None).mincore
_mincore_in_thread.argtypes = _libc.mincore.argtypes
_libc.sigaction.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int64),
)
_FAILED: Final = ctypes.c_void_p(-1).value
_MAP_FIXED: Final = 0x10
"""The same on every machine that `_HANDLED` names."""


class FileMapping:
    """The bytes of a file, for reading, until nobody holds them any more."""

    __slots__ = ("__weakref__", "address", "content", "is_torn", "may_be_asked", "view")

    def __init__(self, descriptor: int, size: int) -> None:
        """Maps *size* bytes. Raises OSError or ValueError where that cannot be done."""
        self.is_torn = False
        """Whether zeros stand where the file had something; what was copied is worthless."""
        self.content: NDArray[np.uint8] = np.empty(0, np.uint8)
        """The whole file. Touch only what was just said to be resident."""
        if size:
            mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
            # Else a page at the end of what was read ahead has more read, and waits to ask for it.
            mapped.madvise(mmap.MADV_RANDOM)
            self.content = np.frombuffer(mapped, np.uint8)
        self.view = self.content.data
        """The same."""
        self.address = int(self.content.ctypes.data)
        self.may_be_asked = _handles_lost_pages() and _kernel_tells(descriptor, size)
        """Whether the truth can be known of what is resident; if not, nothing may be touched."""
        _mappings[self.address] = self

    def has_resident(self, start: int, end: int, *, in_thread: bool = False) -> bool:
        """Whether the pages of these bytes are in the page cache, as the kernel says.

        *in_thread* the interpreter is let go of meanwhile.
        """
        start -= start % PAGE
        count = -(-(end - start) // PAGE)
        try:
            states = _spare.pop() if count <= _SPARE_PAGES else _States(count)
        except IndexError:
            states = _States(_SPARE_PAGES)
        mincore = _mincore_in_thread if in_thread else _libc.mincore
        failed = mincore(self.address + start, end - start, states.address)
        # Bit 0 alone has a meaning, and Linux leaves the others zero.
        missing = states.pages.find(0, 0, count)
        if count <= _SPARE_PAGES:
            _spare.append(states)
        return not failed and missing < 0

    def mend(self, address: int) -> bool:
        """Put zeros from the page of *address* on; whether it is one of this mapping's."""
        size = len(self.content)
        if not self.address <= address < self.address + size:
            return False
        self.is_torn = True
        page = address - address % PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        rest = self.address + size - page
        placed: int | None = _libc.mmap(page, rest, mmap.PROT_READ, flags, -1, 0)
        return placed == page


_mappings: Final = WeakValueDictionary[int, FileMapping]()


class _States:
    """Room for what the kernel says of pages."""

    __slots__ = ("address", "pages")

    def __init__(self, count: int) -> None:
        self.pages = bytearray(count)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))


_SPARE_PAGES: Final = 8192
_spare: Final[list[_States]] = []
"""Room that nobody uses now: as much as threads have asked with at one time."""


class _SignalAction(ctypes.Structure):
    """`struct sigaction` of Linux's C libraries on the machines of `_HANDLED`."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_HANDLED: Final = frozenset({"x86_64", "aarch64"})
_SA_SIGINFO: Final = 4
_CODE_AT: Final = 8
"""Bytes into `siginfo_t`, as the next."""
_ADDRESS_AT: Final = 16

_previous: Final = _SignalAction()
_installing: Final = threading.Lock()
_is_installed = False


def _on_lost_page(number: int, information: int, _context: int) -> None:
    """What SIGBUS calls, in the thread that touched the page."""
    code = ctypes.c_int.from_address(information + _CODE_AT).value
    if code > 0:  # not sent by a process
        address = ctypes.c_size_t.from_address(information + _ADDRESS_AT).value
        for reference in _mappings.valuerefs():
            mapping = reference()
            if mapping is not None and mapping.mend(address):
                return
    # Not of this module: it comes again and finds who was there before.
    _libc.sigaction(number, ctypes.addressof(_previous), None)
    if code <= 0:
        signal.raise_signal(number)


_handler: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
    _on_lost_page
)


def _handles_lost_pages() -> bool:
    """Whether lost pages are survived; sees to it where that is possible."""
    global _is_installed  # noqa: PLW0603 - handlers are the process's own
    if sys.platform != "linux" or platform.machine() not in _HANDLED:
        return False
    with _installing:
        if not _is_installed:
            address = ctypes.cast(_handler, ctypes.c_void_p).value
            action = _SignalAction(handler=address, flags=_SA_SIGINFO)
            _is_installed = not _libc.sigaction(
                signal.SIGBUS, ctypes.addressof(action), ctypes.addressof(_previous)
            )
        return _is_installed


def _kernel_tells(descriptor: int, size: int) -> bool:
    """Whether `mincore` tells the truth about this file.

    Since Linux 5.2 it says of every page that it is there, unless the process owns the file
    or may write to it. A page behind the end of the file is never there: who says it is, says
    so of all.
    """
    behind = -(-size // PAGE) * PAGE
    address = _libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, behind)
    if address is None or address == _FAILED:
        return False
    state = ctypes.c_ubyte(1)
    failed = _libc.mincore(address, PAGE, ctypes.addressof(state))
    _libc.munmap(address, PAGE)
    return not failed and not state.value & 1
