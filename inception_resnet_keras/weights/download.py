"""Downloads into Keras's cache: each file is fetched once, whole or not at all, and verified before every use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..common.errors import InputError
from ..common.files import replacing, write_text


def cache() -> Path:
    """Keras's folder: $KERAS_HOME, or .keras in the home folder."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def fetch(url: str, folder: str, digest: str | None, name: str | None = None) -> Path:
    """The path of a file in the cache. If it is missing, it is downloaded, with a progress bar.

    Args:
        url: The file's address.
        folder: The folder in the cache.
        digest: "md5:…" or "sha256:…". None if none is published: then the SHA-256 of the first download is written
            beside the file, and later uses must match it.
        name: The file's name in the cache; None for the last part of `url`.

    Raises:
        InputError: The file cannot be fetched (the message has both the address and the path), or has changed.
    """
    path = cache() / folder / (name or url.rpartition("/")[2])
    if not path.is_file():
        _download(url, path, digest)
    _verify(path, digest)
    return path


def _download(url: str, path: Path, digest: str | None) -> None:
    import keras

    algorithm, _, value = (digest or "auto:").partition(":")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            keras.utils.get_file(
                fname=part.name,
                origin=url,
                file_hash=value or None,
                hash_algorithm=algorithm,
                cache_dir=str(part.parent),
                cache_subdir="",
                force_download=True,
            )
    except Exception as error:  # network libraries have no common error class
        raise InputError(f"{path.name} could not be downloaded ({error}). Fetch {url} and put it at {path}") from error


def _verify(path: Path, digest: str | None) -> None:
    algorithm, _, value = (digest or "sha256:").partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    record = path.with_name(f"{path.name}.sha256")
    if not digest and not record.exists():
        write_text(record, f"{found}  {path.name}\n")
        return
    wanted = value or record.read_text(encoding="utf-8").partition(" ")[0]
    if found != wanted:
        raise InputError(
            f"{path}: has the {algorithm} {found}, and {wanted} is expected: delete it"
            f"{'' if digest else f', and {record.name} beside it,'} to download it again"
        )
