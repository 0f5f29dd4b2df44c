"""Which disk a file is on, and who is let near a disk that does not answer."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from support.mounts import pretend_network

from soda_service.storage import disks
from soda_service.storage.disks import MOST_LOST, Disk, DiskHangsError, Mounted, disk_of, touch_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_ROOT = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


class _Clock:
    """In the place of `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(disks, "time", clock)
    return clock


@pytest.fixture(name="mounts")
def _mounts(tmp_path: Path) -> tuple[Path, Path]:
    """A folder that seems to be a disk of this machine, and one that seems to be a server's."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    return here, there


def _mounted(tmp_path: Path, there: Path, kind: str = "nfs4", number: int = 36) -> Mounted:
    listed = tmp_path / "mountinfo"
    listed.write_text(
        f"{_ROOT}\n{number} 20 0:40 / {there} rw shared:2 master:1 - {kind} server:/export rw\n"
    )
    return Mounted(listed)


@pytest.mark.parametrize(
    "kind", ["nfs4", "cifs", "fuse.sshfs", "fuseblk", "lustre", "9p", "virtiofs", "autofs", "newfs"]
)
def test_what_is_not_known_to_be_this_machines_asks_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The file itself is not asked, and need not be there."""
    pretend_network(tmp_path, monkeypatch, kind)
    assert not disk_of(str(tmp_path)).is_local
    assert not disk_of(str(tmp_path / "nothing" / "here")).is_local
    assert disk_of("/sys").is_local
    assert disk_of(str(tmp_path.parent)).is_local
    assert disk_of(str(tmp_path) + "s").is_local


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs"])
def test_disks_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pretend_network(tmp_path, monkeypatch, kind)
    assert disk_of(str(tmp_path / "file")).is_local


def test_all_are_this_machines_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert Mounted(tmp_path / "nothing").disk_of("/net/server/file").is_local
    (tmp_path / "mountinfo").write_text("30 20 0:4 / /proc rw - proc proc rw\n")  # after chroot
    assert Mounted(tmp_path / "mountinfo").disk_of("/net/server/file").is_local


def test_what_is_mounted_over_others_hides_them(tmp_path: Path) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text(
        f"{_ROOT}\n"
        "30 20 8:2 / /data rw - ext4 /dev/sdb1 rw\n"
        "31 30 0:50 / /data/cache rw - tmpfs tmpfs rw\n"
        "40 30 0:60 / /data rw - nfs4 server:/e rw\n"
        "41 40 0:61 / /data/inner rw - tmpfs tmpfs rw\n"
    )
    mounted = Mounted(listed)
    assert not mounted.disk_of("/data/cache/file").is_local
    assert not mounted.disk_of("/data/file").is_local
    assert mounted.disk_of("/data/inner/file").is_local
    assert mounted.disk_of("/database").is_local


def test_a_list_that_cannot_be_read_is_read_again(
    tmp_path: Path, mounts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then what was known holds, and who is lost stays known."""
    _, there = mounts
    mounted = _mounted(tmp_path, there)
    disk, before = mounted.disk_of(str(there)), mounted.now()
    _mounted(tmp_path, there, kind="cifs", number=37)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", _refuse)
        mounted.look_again()
        assert mounted.disk_of(str(there)) is disk
    assert mounted.disk_of(str(there)) is not disk
    assert mounted.now() != before


def _refuse(*_: object) -> bytes:
    raise OSError(errno.EMFILE, "too many open files")


def test_lines_that_are_none(tmp_path: Path) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text(f"{_ROOT}\n36 20 0:40 / /net rw nfs4\n\n36 -\n36 20 0:40 / /net rw - \n")
    assert Mounted(listed).disk_of("/net/server/file").is_local


def test_places_with_blanks(tmp_path: Path) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text(
        f"{_ROOT}\n" + r"36 20 0:40 / /a\040b\134c rw - nfs4 server:/export rw" + "\n"
    )
    assert not Mounted(listed).disk_of("/a b\\c/file").is_local


def test_links_lead_to_the_disk_where_the_file_is(
    tmp_path: Path, mounts: tuple[Path, Path]
) -> None:
    """Those on a server's disk are not followed: one would have to ask it what is a link."""
    here, there = mounts
    (there / "deep").mkdir()
    (here / "link").symlink_to(there / "deep" / "file")
    (here / "folder").symlink_to("../there/deep")
    (here / "chain").symlink_to("folder")
    (here / "circle").symlink_to("circle")
    (there / "back").symlink_to(here)
    mounted = _mounted(tmp_path, there)
    for path in ("link", "folder/file", "chain/x", "./chain/../y", "nothing/../chain"):
        assert mounted.disk_of(f"{here}/{path}") is mounted.disk_of(str(there)), path
    for path in ("circle", "circle/file", "nothing/file", "chain/../../here/x"):
        assert mounted.disk_of(f"{here}/{path}") is mounted.disk_of("/"), path
    assert mounted.disk_of(f"{there}/back/file") is mounted.disk_of(str(there))


def test_what_others_answer_for_at_a_folder_and_below_it(tmp_path: Path) -> None:
    """Not what is hidden, nor what lies beside it."""
    (tmp_path / "link").symlink_to("/data/deep")
    listed = tmp_path / "mountinfo"
    listed.write_text(
        f"{_ROOT}\n"
        "30 20 8:2 / /data rw - ext4 /dev/sdb1 rw\n"
        "31 30 0:50 / /data/deep rw - fuse.sshfs host:/ rw\n"
        "32 31 0:51 / /data/deep/hidden rw - cifs //server rw\n"
        "33 31 0:52 / /data/deep rw - nfs4 server:/e rw\n"
        "34 33 0:53 / /data/deep/er rw - tmpfs tmpfs rw\n"
        "35 30 0:54 / /data/9 rw - 9p host rw\n"
        "36 20 0:55 / /database rw - nfs4 server:/d rw\n"
    )
    mounted = Mounted(listed)

    def told(folder: str) -> list[tuple[str, str]]:
        return [(one.place, one.kind) for one in mounted.of_others(folder)]

    deep = ("/data/deep", "nfs4")
    assert told("/data") == [("/data/9", "9p"), deep]
    assert told("/data/deep/folder") == told(str(tmp_path / "link")) == [deep]
    assert told("/data/deep/er") == told("/data/file") == []
    assert told("/") == [("/data/9", "9p"), deep, ("/database", "nfs4")]
    assert Mounted(tmp_path / "nothing").of_others("/") == []


def test_what_is_mounted_anew_is_another_disk(tmp_path: Path, mounts: tuple[Path, Path]) -> None:
    """Whoever is lost in the old one says nothing of it."""
    _, there = mounts
    mounted = _mounted(tmp_path, there)
    before = mounted.now()
    disk = mounted.disk_of(str(there))
    assert mounted.disk_of(str(there)) is disk
    _mounted(tmp_path, there, number=37)
    mounted.look_again()
    assert mounted.now() != before
    assert mounted.disk_of(str(there)) is not disk


def test_the_kernel_says_what_is_mounted() -> None:
    assert disk_of("/proc/self/status").is_local
    assert disk_of("/proc/self/status") is disk_of("/proc/self")
    assert disk_of("/proc") is not disk_of("/")


class _Lost:
    """Threads that ask *disk* and get no answer until they are let go."""

    def __init__(self, disk: Disk | None = None) -> None:
        self._disk = disk or Disk(is_local=False)
        self._release = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, path: str) -> None:
        entered = threading.Event()

        def ask() -> None:
            with self._disk.touched(path):
                entered.set()
                self._release.wait(30)

        thread = threading.Thread(target=ask)
        thread.start()
        self._threads.append(thread)  # once it can be joined: another thread may let go just now
        assert entered.wait(30)

    def let_go(self) -> None:
        self._release.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture(name="lost")
def _lost() -> Iterator[_Lost]:
    lost = _Lost()
    yield lost
    lost.let_go()


@pytest.fixture(name="others")
def _others(clock: _Clock) -> Iterator[list[_Lost]]:
    """Disks in each of which one is lost: as many as it takes until all are tried by one first."""
    others = [_Lost() for _ in range(MOST_LOST)]
    for one in others:
        one.add("file")
    clock.now += disks.SILENT_SECONDS + 0.1
    yield others
    for one in others:
        one.let_go()


def _is_let_in(lost: _Lost, path: str = "another") -> bool:
    try:
        with lost._disk.touched(path):
            return True
    except DiskHangsError:
        return False


def test_a_disk_without_answers_is_left_alone_but_for_trials(lost: _Lost, clock: _Clock) -> None:
    for number in range(MOST_LOST):
        lost.add(str(number))
    assert lost._disk.lost == 0
    clock.now += disks.SILENT_SECONDS + 0.1
    assert lost._disk.lost == MOST_LOST
    lost.add("a trial")
    assert not _is_let_in(lost)
    clock.now += disks._TRIAL_SECONDS + 0.1
    lost.add("another trial")
    assert not _is_let_in(lost)
    lost.let_go()
    assert _is_let_in(lost)


def test_the_error_has_the_path_for_the_log_only(lost: _Lost, clock: _Clock) -> None:
    lost.add("the file")
    clock.now += disks.HANGS_SECONDS + 0.1
    with pytest.raises(DiskHangsError) as caught, lost._disk.touched("the file"):
        pass
    assert caught.value.path == "the file"
    assert "the file" not in str(caught.value)


def test_trials_become_rare_and_end_where_too_many_are_lost(lost: _Lost, clock: _Clock) -> None:
    for number in range(2 * MOST_LOST):
        lost.add(str(number))
        clock.now += disks._TRIAL_SECONDS + 0.1
    for number in range(2 * MOST_LOST, disks._MOST_AT_ALL):
        assert not _is_let_in(lost)
        clock.now += disks._RARE_TRIAL_SECONDS + 0.1
        lost.add(str(number))
    clock.now += 10 * disks._RARE_TRIAL_SECONDS
    assert not _is_let_in(lost)


def test_one_file_does_not_shut_out_the_others(lost: _Lost, clock: _Clock) -> None:
    """Of a disk that is well otherwise, however often it is asked for."""
    for _ in range(2 * MOST_LOST):
        lost.add("file")
    clock.now += disks.SILENT_SECONDS + 0.1
    for _ in range(3):
        assert not _is_let_in(lost, "file")
        clock.now += disks._RARE_TRIAL_SECONDS
        assert _is_let_in(lost, "another")
        assert _is_let_in(lost, "a third")


def test_a_busy_disk_is_not_one_that_hangs(lost: _Lost, clock: _Clock) -> None:
    """However many wait for it, as long as answers come."""
    for number in range(3 * MOST_LOST):
        lost.add(str(number))
    clock.now += disks.SILENT_SECONDS - 0.1
    assert _is_let_in(lost)


def test_nobody_waits_beside_one_who_is_lost_over_the_same_file(lost: _Lost, clock: _Clock) -> None:
    """For a while they do: it may only be slow."""
    lost.add("file")
    clock.now += disks.SILENT_SECONDS + 0.1
    assert _is_let_in(lost, "file")
    lost.add("file")
    assert _is_let_in(lost, "file")
    clock.now += disks.SILENT_SECONDS + 0.1
    assert not _is_let_in(lost, "file")  # two are lost
    assert _is_let_in(lost, "another")


def test_nor_beside_one_who_is_lost_for_long(lost: _Lost, clock: _Clock) -> None:
    lost.add("file")
    clock.now += disks.HANGS_SECONDS + 0.1
    assert not _is_let_in(lost, "file")
    assert _is_let_in(lost, "another")


def test_answers_in_between_count(clock: _Clock) -> None:
    disk = Disk(is_local=True)
    with disk.touched("file") as touch:
        clock.now += disks.SILENT_SECONDS + 0.1
        assert disk.lost == 1
        touch.goes_on()
        assert disk.lost == 0


def test_each_thread_says_what_it_asks(clock: _Clock) -> None:
    """The inner of two questions, and the outer one again after it."""
    here = threading.get_ident()
    assert touch_of(here) is None
    with Disk(is_local=True).touched("outer") as outer:
        clock.now += 5
        with Disk(is_local=False).touched("inner") as inner:
            assert touch_of(here) is inner
        assert touch_of(here) is outer
        assert outer.since == clock.now
    assert touch_of(here) is None


def test_descriptors_are_closed_in_a_thread_of_the_disks(tmp_path: Path) -> None:
    disk = Disk(is_local=False)
    reading, writing = os.pipe()
    disk.close_later(writing)
    disk.close_later(1 << 20)  # no descriptor: the next one is closed all the same
    assert os.read(reading, 1) == b""  # the end of the pipe: it is closed
    other, more = os.pipe()
    disk.close_later(more)
    assert os.read(other, 1) == b""
    os.close(reading)
    os.close(other)


def test_who_gives_up_has_had_no_answer(lost: _Lost, clock: _Clock) -> None:
    """Whoever looked on while somebody else waited, say."""

    def give_up() -> None:
        with lost._disk.touched("a trial"):
            raise DiskHangsError("a trial")

    for number in range(MOST_LOST):
        lost.add(str(number))
    clock.now += disks.SILENT_SECONDS + 0.1
    with pytest.raises(DiskHangsError):
        give_up()
    assert not _is_let_in(lost)


def test_who_waited_for_others_has_had_no_answer_either(lost: _Lost, clock: _Clock) -> None:
    for number in range(MOST_LOST):
        lost.add(str(number))
    clock.now += disks.SILENT_SECONDS + 0.1
    with lost._disk.awaited("another"):
        lost.add("a trial")
    assert not _is_let_in(lost)


def test_where_many_disks_hang_each_is_tried_by_one(
    lost: _Lost, others: list[_Lost], clock: _Clock
) -> None:
    """They are of one server, and all of them may hang."""
    for one in (lost, *others):
        one.add("a trial")
        assert not _is_let_in(one)
    clock.now += 0.1
    assert lost._disk.lost == 1  # so that another takes his place soon
    clock.now += disks._TRIAL_SECONDS
    assert not _is_let_in(lost)  # too many are lost by now
    clock.now += disks._RARE_TRIAL_SECONDS
    lost.add("another trial")
    assert not _is_let_in(lost)
    lost.let_go()
    assert _is_let_in(lost)


@pytest.mark.usefixtures("others")
def test_where_many_disks_hang_one_that_is_asked_seldom_does_not(clock: _Clock) -> None:
    """Who comes first has an answer; it matters not how long ago the last one came."""
    seldom = _Lost()
    for _ in range(5):
        clock.now += 2 * disks.SILENT_SECONDS
        assert _is_let_in(seldom)
        for number in range(MOST_LOST - 1):
            seldom.add(str(number))
        assert _is_let_in(seldom)
        seldom.let_go()


@pytest.mark.usefixtures("others")
def test_where_many_disks_hang_who_comes_second_waits_for_the_answer_to_the_first(
    lost: _Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_FIRST_ANSWER_SECONDS", 30.0)
    lost.add("first")
    second = threading.Thread(target=lost.add, args=("second",))
    second.start()
    lost.let_go()
    second.join(30)
    assert not second.is_alive()
    assert len(lost._threads) == 2
    assert _is_let_in(lost)


@pytest.mark.usefixtures("others")
def test_where_many_disks_hang_answers_may_be_of_the_memory(lost: _Lost, clock: _Clock) -> None:
    """What a file of a server is, the kernel knows for a minute."""
    assert _is_let_in(lost)
    lost.add("file")
    clock.now += disks.SILENT_SECONDS + 0.1
    assert _is_let_in(lost)
    clock.now += 0.1
    lost.add("another file")
    assert not _is_let_in(lost)


@pytest.mark.usefixtures("others")
def test_where_many_disks_hang_those_of_this_machine_are_as_ever(clock: _Clock) -> None:
    """They have no server in common with any."""
    here = _Lost(Disk(is_local=True))
    for number in range(MOST_LOST - 1):
        here.add(str(number))
        clock.now += disks.SILENT_SECONDS + 0.1
    assert _is_let_in(here)
    here.let_go()


def test_many_that_are_lost_leave_room_for_disks_that_answer(
    lost: _Lost, others: list[_Lost], clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _is_let_in(lost)
    monkeypatch.setattr(disks, "_MOST_EVERYWHERE", len(others))
    assert _is_let_in(lost)
    clock.now += disks.SILENT_SECONDS + 0.1
    assert not _is_let_in(lost)
    others[0].let_go()
    assert _is_let_in(lost)


def test_where_very_many_are_lost_two_in_one_disk_are_enough(
    lost: _Lost, others: list[_Lost], clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They will know when it answers again."""
    monkeypatch.setattr(disks, "_MOST_AT_ALL", len(others))
    for number in range(2):
        lost.add(str(number))
        clock.now += disks._RARE_TRIAL_SECONDS + 0.1
    clock.now += 10 * disks._RARE_TRIAL_SECONDS
    assert not _is_let_in(lost)


@pytest.mark.usefixtures("others")
def test_who_waits_for_others_is_no_trial(lost: _Lost) -> None:
    """Whoever asks after him is."""
    with lost._disk.awaited("file"):
        assert _is_let_in(lost)
