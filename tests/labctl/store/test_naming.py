from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from labctl.errors import InputError, StorageError
from labctl.store import naming
from labctl.store.journal import Journal
from labctl.store.naming import allocate_run, find_run, is_network, mount_type, plain_part
from labctl.store.run import open_run

DAY = date(2026, 11, 21)
ALLOCATE = """
import sys
from datetime import date
from labctl.store.naming import allocate_run
for number in range(40):
    print(allocate_run(sys.argv[1], sys.argv[2], "A12", date(2026, 11, 21)).number)
"""


def test_runs_are_numbered_by_day(tmp_path: Path) -> None:
    first = allocate_run(tmp_path, "fluence_sweep", "A12", DAY)
    assert first.sealed == tmp_path / "2026-11-21" / "0001_fluence-sweep_A12.h5"
    assert first.journal == tmp_path / "2026-11-21" / "0001_fluence-sweep_A12.journal"
    assert first.payload("frames").name == "0001_fluence-sweep_A12.frames.payload"
    assert not first.journal.exists() and not first.sealed.exists()
    assert allocate_run(tmp_path, "vsl", "", DAY).name == "0002_vsl"
    assert allocate_run(tmp_path, "vsl", "", date(2026, 11, 22)).number == 1


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    folder = tmp_path / "2026-11-21"
    folder.mkdir()
    (folder / "0041_old_A1.h5").touch()
    (folder / "10000x").touch()
    assert allocate_run(tmp_path, "vsl", "A1", DAY).number == 42
    (folder / "0041_old_A1.h5").unlink()
    assert allocate_run(tmp_path, "vsl", "A1", DAY).number == 43


def test_two_processes_never_get_one_number(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", ALLOCATE, str(tmp_path), name] for name in ("fluence-sweep", "vsl")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    numbers = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 81))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("A12", "A12"),
        ("CsPbBr3 @ 77 K", "CsPbBr3-77-K"),
        ("../../etc/passwd", "etc-passwd"),
        ('a<b>:"/\\|?*c', "a-b-c"),
        ("Probe Ä µm.", "Probe-A-um"),
        ("trailing. ", "trailing"),
        ("...", ""),
        ("量子", ""),
        ("x" * 200, "x" * 60),
        ("line\nfeed\0nul", "line-feed-nul"),
    ],
)
def test_names_are_fit_for_every_file_system(text: str, plain: str) -> None:
    assert plain_part(text) == plain


MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /mnt/lab rw - cifs //server/lab rw
31 22 0:41 / /mnt/with\040space rw - nfs4 server:/x rw
32 22 0:42 / /home/user/sshfs rw - fuse.sshfs host: rw
33 22 8:2 / /mnt/usb rw - fuseblk /dev/sdb1 rw
34 30 8:3 / /mnt/lab/local rw - xfs /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/user", "ext4", False),
        ("/mnt/lab", "cifs", True),
        ("/mnt/laboratory", "ext4", False),
        ("/mnt/lab/2026", "cifs", True),
        ("/mnt/lab/local/2026", "xfs", False),
        ("/mnt/with space/a", "nfs4", True),
        ("/home/user/sshfs/a", "fuse.sshfs", True),
        ("/mnt/usb/a", "fuseblk", False),
    ],
)
def test_network_file_systems_are_told_by_the_mount_table(path: str, kind: str, network: bool) -> None:
    assert mount_type(path, MOUNTS) == kind
    assert naming._is_network_type(kind) is network


def test_a_journal_is_kept_off_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, spool = tmp_path / "share", tmp_path / "spool"
    monkeypatch.setattr(naming, "is_network", lambda path: path.is_relative_to(share))
    paths = allocate_run(share, "vsl", "A12", DAY, spool=spool)
    assert paths.sealed.is_relative_to(share) and paths.journal.is_relative_to(spool)
    with Journal.create(paths.journal, {"run": paths.name}):
        pass
    for path in (paths.journal, paths.sealed, paths.sealed.with_suffix("")):
        files = find_run(path)
        assert (files.journal, files.sealed) == (paths.journal, paths.sealed)
        with open_run(path) as run:
            assert run.status == "crashed"


def test_the_temporary_directory_of_the_tests_is_judged(tmp_path: Path) -> None:
    assert isinstance(is_network(tmp_path), bool)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="no run can be started"):
        allocate_run(tmp_path / "file", "vsl", "A12", DAY)


def test_a_file_of_another_kind_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=r"x\.txt is not a run"):
        find_run(tmp_path / "x.txt")


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_names_no_run(path: str) -> None:
    with pytest.raises(InputError, match="names no run"):
        find_run(path)
