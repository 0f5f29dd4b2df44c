"""A file system with faults: a folder, shown elsewhere by a program that can be told to fail.

`FaultyDisk.mounted` starts `faultyfs` as a program of its own, for a process that waits for a
file system that it serves itself waits for ever. What is to go wrong is told to it line by line;
when somebody hangs, it says so. A disk that hangs lets go of processes that are killed, as NFS
does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.programs import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS: Final = 20.0
"""After which what should have happened by now is taken not to happen."""
_POLL_SECONDS: Final = 0.02
_PROGRAM: Final = Path(__file__).with_name("faultyfs.py")


class FaultyDisk:
    """The other end: says what is to go wrong. Everything is well until something is said."""

    def __init__(self, behind: Path, mount: Path, program: subprocess.Popen[str]) -> None:
        self.behind = behind
        """The folder that is shown, in which tests write what they like."""
        self.mount = mount
        """Where it is shown."""
        self._program = program
        self._said = threading.Condition()
        self._hanging: list[str] = []
        self._orders = 0
        threading.Thread(target=self._listen, daemon=True).start()

    @classmethod
    @contextmanager
    def mounted(
        cls, behind: Path, mount: Path, *, attribute_seconds: float = 0.0
    ) -> Iterator[FaultyDisk]:
        """The folder *behind* shown at *mount*, until the end of the block, whatever happens.

        The kernel believes what it was told about a file for *attribute_seconds*. Skips the
        test where the machine lets nobody mount anything.
        """
        for folder in (behind, mount):
            folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(_PROGRAM), str(behind), str(mount), str(attribute_seconds)]
        program = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _wait_until_mounted(mount, program)
            yield cls(behind, mount, program)
        finally:
            program.kill()  # whoever hangs gets an error
            program.wait(_SECONDS)
            unmount(mount)
            for pipe in (program.stdin, program.stdout, program.stderr):
                if pipe is not None:
                    pipe.close()

    def hang(self, *operations: str, name: str = "") -> None:
        """From now on *operations* wait, those on files whose path has *name* in it."""
        self._order(hang=operations, name=name)

    def fail(self, *operations: str, error: int, name: str = "", from_byte: int = 0) -> None:
        """*operations* give this *error*; readings only from this byte on."""
        self._order(fail=operations, error=error, name=name, from_byte=from_byte)

    def slow(self, *operations: str, seconds: float, name: str = "") -> None:
        """*operations* take this long."""
        self._order(slow=operations, seconds=seconds, name=name)

    def heal(self) -> None:
        """All is well, and who hangs goes on."""
        self._order()

    def end(self) -> None:
        """The disk is gone: whoever hangs, and whoever asks, gets an error."""
        self._program.kill()
        self._program.wait(_SECONDS)

    def wait_until_hanging(self, count: int = 1) -> list[str]:
        """At least so many operations hang since the last order; which, with their paths."""
        with self._said:
            if not self._said.wait_for(lambda: len(self._hanging) >= count, _SECONDS):
                raise TimeoutError(f"of {count} operations these hang: {self._hanging}")
            return list(self._hanging)

    @property
    def hanging(self) -> int:
        """How many operations have hung since the last order."""
        with self._said:
            return len(self._hanging)

    def _order(self, **what: object) -> None:
        """Returns once it is obeyed."""
        assert self._program.stdin is not None
        with self._said:
            self._hanging.clear()
            expected = self._orders + 1
        self._program.stdin.write(json.dumps(what) + "\n")
        self._program.stdin.flush()
        with self._said:
            if not self._said.wait_for(lambda: self._orders >= expected, _SECONDS):
                raise TimeoutError("the file system does not listen")

    def _listen(self) -> None:
        assert self._program.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self._program.stdout:
                with self._said:
                    if line == "obeyed\n":
                        self._orders += 1
                    else:
                        self._hanging.append(line.strip())
                    self._said.notify_all()


def unmount(mount: Path) -> None:
    """Take what is mounted there away from the tree; who has files of it open keeps them."""
    subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=False, capture_output=True)


def require_faulty_disk() -> None:
    """Skips the test where no such file system can be had, saying why.

    With SODA_REQUIRE_ALL=1 it fails, unless it is the machine that lacks it, or forbids it.
    """
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no /dev/fuse")
    require_program("fusermount3")
    if importlib.util.find_spec("mfusepy") is None:
        if os.environ.get("SODA_REQUIRE_ALL") == "1":
            pytest.fail("mfusepy is not installed, and SODA_REQUIRE_ALL=1 requires it")
        pytest.skip("mfusepy is not installed")


def _wait_until_mounted(mount: Path, program: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _SECONDS
    while not os.path.ismount(mount):
        if program.poll() is not None or time.monotonic() > end:
            program.kill()
            said = program.communicate()[1]
            if "not permitted" in said or "Permission denied" in said:
                pytest.skip(f"this machine lets nobody mount anything: {said}")
            raise OSError(f"nothing is mounted: {said}")
        time.sleep(_POLL_SECONDS)
