"""CSV manifests of labelled pictures: a line a picture, its path and its class."""

from __future__ import annotations

import csv
from pathlib import Path

from ..common.errors import InputError


def read_manifest(path: Path) -> tuple[list[Path], list[str]]:
    """Files and labels of a CSV file with the columns path (relative to the file) and label.

    Raises InputError where it is no such file, names nothing, or a line lacks one or repeats a path.
    """
    files: list[Path] = []
    labels: list[str] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := {"path", "label"} - set(rows.fieldnames or ()):
                raise InputError(
                    f"{path}: lacks the column {' and '.join(sorted(missing))}; its first line names the columns, "
                    f"path and label, and is {','.join(rows.fieldnames or ())!r}"
                )
            for row in rows:
                name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                if not name or not label:
                    raise InputError(f"{path}, line {rows.line_num}: has no {'label' if name else 'path'}")
                if name in seen:
                    raise InputError(f"{path}, line {rows.line_num}: {name!r} stands in line {seen[name]} already")
                seen[name] = rows.line_num
                files.append(path.parent / name)
                labels.append(label)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no CSV file in UTF-8: {error}") from None
    if not files:
        raise InputError(f"{path}: names no pictures; a line a picture is needed: path,label")
    return files, labels
