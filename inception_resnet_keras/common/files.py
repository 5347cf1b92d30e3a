"""Whole-or-nothing writing, and reading of regular files only.

Writing: a file or folder is complete on the disk, or it does not exist.

Everything is written in a hidden folder beside its target, `.NAME.HOST.PID.TOKEN.partial`, flushed and then renamed.
A killed process leaves this folder behind. The next process that writes the same target removes it, unless the process
that made it is still running, or ran on another host, where that cannot be checked.

Reading: opening a FIFO blocks until another process writes to it, and opening a device may do anything. Therefore all
files that a user names or a folder contains are opened by `open_regular`.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .console import json_text
from .errors import InputError

_in_use: set[str] = set()  # names of the hidden folders in use by this process


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file that replaces `path` in one step.

    Yields the path to write to, with the same name, in a hidden folder. If the block fails, `path` is unchanged.

    Example:
        with replacing(Path("model.keras")) as part:
            model.save(part)
    """
    with _hidden_folder(path) as folder:
        part = folder / path.name
        yield part
        _flush(part)
        os.replace(part, path)
        _flush_names(path.parent)


@contextmanager
def new_files(*targets: Path) -> Iterator[Path]:
    """Write files or folders that must not exist yet: all of them, or none.

    Yields an empty hidden folder. The block writes each target in it, under the target's own name; other files in it
    are deleted. The targets are renamed in the order given, so that the last one exists only if all of them do.

    Args:
        targets: Paths of files or folders, all in one existing folder.

    Raises:
        InputError: A target exists before or after the block. It is not changed.
        FileNotFoundError: The block did not write a target.

    Example:
        with new_files(Path("model.bin"), Path("model.xml")) as folder:
            (folder / "model.bin").write_bytes(weights)
            (folder / "model.xml").write_text(graph)
    """
    for target in targets:
        _refuse_existing(target)
    with _hidden_folder(targets[-1]) as folder:
        yield folder
        for target in targets:
            _flush_tree(folder / target.name)
        try:
            for target in targets:
                if os.path.lexists(target):
                    raise InputError(f"{target}: appeared during the work; nothing is overwritten, give another name")
                os.rename(folder / target.name, target)
        except BaseException:
            for target in targets:
                if not os.path.lexists(folder / target.name):  # it was renamed
                    _remove(target)
            raise
        _flush_names(targets[-1].parent)


def require_new_file(path: Path) -> None:
    """Check before long work that `new_files` can write a file: create it empty, and remove it.

    Raises:
        InputError: The file exists, its folder does not exist, or the file cannot be created.
    """
    _refuse_existing(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first, or give another name")
    try:
        with open(path, "x"):
            pass
        path.unlink()
    except OSError as error:  # the name is too long, or the folder or disk cannot be written to
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another name") from None


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path}: already exists; nothing is overwritten, give another name")


@contextmanager
def new_folder(out: Path | None, parent: Path, name: str, not_below: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Create a folder for results that are written one by one. It is removed if the block leaves it empty.

    Args:
        out: The folder, which must be new or empty. None creates `parent`/`name`-1, or the next free number.
        parent: The folder for numbered folders. It is created if it does not exist.
        name: The numbered folder's name, without the number.
        not_below: Folders of images, in which the new folder would count as a class. Other sources, such as
            "tfds:mnist", are ignored.

    Raises:
        InputError: The folder lies in a folder of images, is not empty, or cannot be created.
    """
    place = out or parent
    for pictures in map(Path, not_below):
        if pictures.is_dir() and real_path(place).is_relative_to(real_path(pictures)):
            raise InputError(
                f"{place}: lies in the folder of pictures {pictures}, where it would count as a class; give another "
                "folder with --out"
            )
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: already exists and is not an empty folder; nothing is overwritten, give a new folder")
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = out or _numbered(parent, name)
    except OSError as error:
        raise InputError(f"{place}: cannot be created ({error.strerror}); give another folder with --out") from None
    try:
        yield folder
    finally:
        with suppress(OSError):  # stops at the first folder that is not empty
            for empty in made if out else (folder, *made):
                empty.rmdir()


LOCK, WRITER = ".writer.lock", ".writer.json"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Allow only this process to write in an existing folder, until the block or the process ends.

    It takes a lock of the operating system, which is released however the process ends. The file `.writer.lock` stays.
    On a file system without locks, the file itself is the lock.

    Raises:
        InputError: Another process writes in the folder (the message has its host and number), or the folder cannot
            be written to.
    """
    from filelock import FileLock, Timeout

    lock, writer = FileLock(folder / LOCK), folder / WRITER
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"{folder}: {_described(writer)} writes in it; wait until that process ends, or give another folder"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None
    try:
        try:
            write_json(writer, {"host": platform.node(), "process": os.getpid()})
        except OSError as error:
            raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None
        yield
    finally:
        with suppress(OSError):
            writer.unlink(missing_ok=True)
        lock.release()


def _described(writer: Path) -> str:
    try:
        stored = json.loads(writer.read_text(encoding="utf-8"))
        return f"process {int(stored['process'])} on host {str(stored['host'])[:100]!r}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # it has just started, or the file is damaged
        return "another process"


class IrregularFileError(InputError, OSError):
    """Raised for a FIFO, a socket or a device instead of opening it. `strerror` is the message without the path."""

    strerror: str

    def __init__(self, path: str | Path, kind: str) -> None:
        reason = f"is {kind}, and only regular files are read; give a file"
        super().__init__(f"{path}: {reason}")
        self.strerror = reason


_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def require_regular(path: str | Path) -> None:
    """Raise IrregularFileError for a path that is neither a regular file nor a folder. A missing path is accepted."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # the caller's attempt to open it reports this
        return
    _refuse_irregular(path, mode)


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file to read its bytes, without ever waiting for a writer.

    Raises IrregularFileError for a FIFO, a socket or a device, even if it replaces the file during the call; and
    OSError like `open`.
    """
    return os.fdopen(_descriptor(path), "rb")


def read_start(path: str | Path, count: int) -> bytes:
    """The first `count` bytes of a regular file, or all of a shorter one. Raises like `open_regular`."""
    descriptor = _descriptor(path)
    try:
        start = os.read(descriptor, count)
        while len(start) < count and (more := os.read(descriptor, count - len(start))):
            start += more
        return start
    finally:
        os.close(descriptor)


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file. Raises like `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a regular file, with "\n" as line end. Raises like `open_regular`, and UnicodeError."""
    with io.TextIOWrapper(open_regular(path), encoding) as file:
        return file.read()


def _descriptor(path: str | Path) -> int:
    require_regular(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        _refuse_irregular(path, mode)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def real_path(path: str | Path) -> Path:
    """The absolute path with links followed. Unlike `Path.resolve`, it does not raise for links in a loop."""
    return Path(os.path.realpath(path))


def read_short_text(path: Path, most: int, *, names: bool = False) -> str:
    """The text of a UTF-8 file of at most `most` bytes, with or without a byte order mark.

    Args:
        path: The file.
        most: The largest size in bytes.
        names: Whether the file contains file names. Their bytes need not be UTF-8, and are read like `os.fsdecode`
            reads them.

    Raises:
        OSError: The file does not exist, or cannot be read.
        ValueError: The file is longer or is not UTF-8; or, as an IrregularFileError, it is not a regular file.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    if names and b"\0" in content:
        raise ValueError("it contains a zero byte, so it is not a text")
    return content.decode("utf-8-sig", "surrogateescape" if names else "strict")


def _refuse_irregular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise IrregularFileError(path, _KINDS.get(stat.S_IFMT(mode), "not a file"))


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8. Bytes of file names that are not UTF-8 are written unchanged."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented strict JSON."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table row by row, which needs little memory for any length; encoded like `write_text`."""
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, from the system's buffers to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove all partial results in a folder that no other process writes in, from whichever host they are."""
    for pattern in (".*.partial", ".*.partial.*"):  # the second pattern is that of older versions
        for path in folder.glob(pattern):
            _remove(path)


@contextmanager
def _hidden_folder(target: Path) -> Iterator[Path]:
    """Create an empty folder beside `target` and remove it afterwards. First remove those of killed processes."""
    _remove_abandoned(target)
    name = f"{_prefix(target)}{os.getpid()}.{secrets.token_hex(4)}.partial"
    folder = target.with_name(name).absolute()
    _in_use.add(name)
    try:
        try:
            folder.mkdir()
        except OSError as error:  # name the target, because the user does not know the hidden folder
            raise type(error)(error.errno, error.strerror, str(target)) from None
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _in_use.discard(name)


def _prefix(target: Path) -> str:
    """The beginning of the hidden folder's name, shortened: a name has at most 255 bytes, a character up to four."""
    host = re.sub(r"[^\w.-]", "_", platform.node(), flags=re.ASCII)
    return f".{target.name[:40]}.{host[:64]}."


def _remove_abandoned(target: Path) -> None:
    pattern = re.compile(re.escape(_prefix(target)) + r"(\d+)\.[0-9a-f]{8}\.partial")
    with suppress(OSError):  # a folder that cannot be listed may still be writable
        for path in list(target.parent.iterdir()):
            found = pattern.fullmatch(path.name)
            if found and path.name not in _in_use and not _is_alive(int(found[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    """Whether another process of this host with this number is running."""
    if pid == os.getpid():
        return False  # an earlier process had our number: a restarted container counts from 1 again
    if os.name != "posix":
        return True  # on Windows, `os.kill` would interrupt the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it belongs to another user
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_tree(path: Path) -> None:
    for each in (*(path.rglob("*") if path.is_dir() else ()), path):
        if each.is_dir():
            _flush_names(each)
        else:
            _flush(each)


def _flush_names(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open folders
        _flush(folder)


def _numbered(parent: Path, name: str) -> Path:
    """Create the folder with the first free number."""
    number = 0
    while True:
        number += 1
        with suppress(FileExistsError):  # made by an earlier run, or by another process at this moment
            (folder := parent / f"{name}-{number}").mkdir(parents=True)
            return folder
