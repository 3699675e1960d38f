"""Files and folders that only their owner may read, under any umask.

The data folder holds keys, connection strings, mails, logs and the data of people. Files have mode 0600, folders 0700.
Processes are started with ``UMASK``, so that what they write is private too.
"""

import os
from contextlib import suppress
from pathlib import Path

UMASK = 0o077
FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_folder(folder: Path) -> None:
    """Make a private folder, and make an existing one private. Missing folders above it are made as usual."""
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    folder.chmod(FOLDER_MODE)


def write_text(file: Path, text: str) -> None:
    """Write a private file. It is complete, or it is as it was before."""
    fresh = file.with_name(f"{file.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w", encoding="utf-8") as out:
        os.fchmod(out.fileno(), FILE_MODE)
        out.write(text)
    fresh.replace(file)


def open_log(log: Path) -> int:
    """A descriptor that appends to a private file, such as a log or a lock."""
    make_folder(log.parent)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def restrict(folder: Path) -> None:
    """Make everything in a folder private that an earlier version wrote with the user's umask."""
    for path, folders, files in os.walk(folder):
        for name, mode in [(".", FOLDER_MODE), *((name, FILE_MODE) for name in files)]:
            target = Path(path) / name
            with suppress(FileNotFoundError):  # a process may remove its own files meanwhile
                if not target.is_symlink() and target.stat().st_mode & UMASK:
                    target.chmod(mode)
        folders[:] = [name for name in folders if not (Path(path) / name).is_symlink()]
