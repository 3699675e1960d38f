"""What is in the data folder is for its owner alone, whatever the umask of the shell is."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import mail, private_files, process


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The most generous umask, under which everybody could write."""
    before = os.umask(0)
    yield
    os.umask(before)


def exposed(folder: Path) -> dict[str, str]:
    """Everything in a folder that others may read or write, with its mode."""
    paths = [folder, *folder.rglob("*")]
    modes = {str(path): path.lstat().st_mode for path in paths if not path.is_symlink()}
    return {path: stat.filemode(mode) for path, mode in modes.items() if mode & private_files.UMASK}


@pytest.mark.usefixtures("open_umask")
class TestPrivateFiles:
    def test_written_files_and_folders_are_private(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        private_files.make_folder(data)
        private_files.write_text(data / "secret", "one")
        private_files.write_text(data / "secret", "two")
        os.close(private_files.open_log(data / "logs" / "service.log"))
        assert exposed(data) == {}
        assert (data / "secret").read_text() == "two"

    def test_older_files_become_private_and_links_are_not_followed(self, tmp_path: Path) -> None:
        outside, data = tmp_path / "outside", tmp_path / "data"
        outside.write_text("of somebody else")
        (data / "mail" / "new").mkdir(parents=True)
        (data / "mail" / "new" / "letter").write_text("Hello")
        (data / "link").symlink_to(outside)
        private_files.restrict(data)
        assert exposed(data) == {}
        assert stat.S_IMODE(outside.stat().st_mode) == 0o666

    def test_a_process_writes_private_files(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        script = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); pathlib.Path(sys.argv[1], 'x').touch()"
        started = process.spawn("writer", [sys.executable, "-c", script, str(data / "made")], data)
        while started.running:
            os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        assert (data / "made" / "x").exists()
        private_files.restrict(data / "run")
        assert exposed(data / "made") == exposed(data / "logs") == exposed(data / "run") == {}

    def test_caught_mail_is_private(self, tmp_path: Path) -> None:
        catcher = mail.Catcher(tmp_path / "mail")
        catcher._keep(b"Subject: for you alone\r\n\r\nHello", ["al@example.com"])
        assert exposed(tmp_path / "mail") == {}


class TestSigningKey:
    def test_the_folder_of_a_signing_key_is_private(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "chassis.web.dev_issuer", "--data", str(tmp_path / "data")]
        subprocess.run([*command, "--write-keys", os.devnull], umask=0, check=True)
        assert exposed(tmp_path / "data") == {}
