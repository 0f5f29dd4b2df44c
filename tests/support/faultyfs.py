"""The program behind `faultydisk`: shows a folder elsewhere, and fails as it is told.

Nothing of the test's process is imported here. libfuse serves ten questions at one time, so no
more than ten can hang here; others hang before, in the kernel.
"""

from __future__ import annotations

import ctypes.util
import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any


class _Faults:
    """What is wrong now; told by one thread, asked by all that serve the file system."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now: dict[str, Any] = {}

    def obey(self, orders: IO[str]) -> None:
        """As long as orders may come; then nothing hangs any more, and the program ends."""
        for line in orders:
            self._become(json.loads(line))
            _say("obeyed")
        self._become({})
        os.kill(os.getpid(), signal.SIGTERM)  # libfuse unmounts, and ends

    def _become(self, now: dict[str, Any]) -> None:
        with self._changed:
            self._now = now
            self._changed.notify_all()

    def meet(self, operation: str, path: str, end: int = sys.maxsize) -> None:
        """Wait, or raise the error, that this *operation* meets now."""
        with self._changed:
            now = self._now
            if now.get("name", "") not in path:
                return
            if operation in now.get("hang", ()):
                _say(f"{operation} {path}")
                while self._now is now:
                    self._changed.wait(0.1)
                    if _libfuse.fuse_interrupted():
                        raise OSError(errno.EINTR, "whoever asked is killed")
                return
        if operation in now.get("fail", ()) and end > now["from_byte"]:
            raise OSError(now["error"], "as ordered")
        if operation in now.get("slow", ()):
            time.sleep(now["seconds"])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _serve(behind: str, mount: str, attribute_seconds: str) -> None:
    """Show *behind* at *mount* until this program is killed."""
    import mfusepy

    faults = _Faults()
    threading.Thread(target=faults.obey, args=(sys.stdin,), daemon=True).start()

    class Shown(mfusepy.Operations):  # type: ignore[misc]  # it has no types
        """The folder *behind*, read only."""

        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            faults.meet("getattr", path)
            status = os.fstat(fh) if fh is not None else os.lstat(behind + path)
            names = ("mode", "nlink", "size", "uid", "gid", "ino")
            told = {f"st_{name}": getattr(status, f"st_{name}") for name in names}
            return told | {f"st_{one}time": getattr(status, f"st_{one}time_ns") for one in "amc"}

        def readdir(self, path: str, _: int) -> list[str]:
            faults.meet("readdir", path)
            return [".", "..", *(one.name for one in Path(behind + path).iterdir())]

        def readlink(self, path: str) -> str:
            return str(Path(behind + path).readlink())

        def open(self, path: str, flags: int) -> int:
            faults.meet("open", path)
            return os.open(behind + path, flags & os.O_ACCMODE)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            faults.meet("read", path, offset + size)
            return os.pread(fh, size, offset)

        def flush(self, path: str, _: int) -> None:
            faults.meet("flush", path)

        def release(self, _: str, fh: int) -> None:
            os.close(fh)

    seconds = dict.fromkeys(("attr_timeout", "entry_timeout"), attribute_seconds)
    mfusepy.FUSE(
        Shown(),
        mount,
        foreground=True,
        ro=True,
        negative_timeout=0,
        **seconds,
    )


if __name__ == "__main__":
    _libfuse = ctypes.CDLL(ctypes.util.find_library("fuse3"))
    _serve(*sys.argv[1:])
