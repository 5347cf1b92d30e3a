"""Reading DICOM files: the first frame as grey values or RGB pixels, displayed as the file specifies. Needs pydicom."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from PIL import Image

from ..common.packages import required

PREAMBLE = 128  # bytes before the mark
MARK = b"DICM"
SUFFIXES = (".dcm", ".dicom")
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose decompressed size is not in the header
WIDEST = 1e12  # beyond every stored value, so that a window maps it to the end of the window's range


def is_dicom(start: bytes) -> bool:
    """Whether `start`, the first 132 bytes or more of a file, is the start of a DICOM file."""
    return start[PREAMBLE : PREAMBLE + len(MARK)] == MARK


def read_dicom_header(stream: IO[bytes]) -> Any:
    """The elements before the pixels, as a pydicom dataset.

    Raises:
        ValueError: The file is deflated, or its header has no size.
    """
    pydicom = required("pydicom", "a DICOM file")
    if DEFLATED in stream.read(4096):
        raise ValueError("it is deflated; save it with another transfer syntax")
    stream.seek(0)
    found = pydicom.dcmread(stream, stop_before_pixels=True)
    if not found.get("Rows") or not found.get("Columns"):
        raise ValueError("it has no picture in it")
    return found


def read_dicom(stream: IO[bytes]) -> Image.Image:
    """Decode the first frame, as a picture of mode "RGB", or of mode "F" with the values to display.

    Modality values, such as Hounsfield units, are computed from the stored values. The first window (or VOI lookup
    table) is applied and maps them to 0-255, and MONOCHROME1 is inverted. Without one, the modality values are kept;
    `info["inverted"]` is then True for MONOCHROME1, which must be inverted after it is scaled to 0-255: negated values
    would lie in another range than those of MONOCHROME2 in the same data set.

    Raises:
        Exception: Any exception of pydicom, for a damaged file, or if a package for the compression is missing.
    """
    pydicom = required("pydicom", "a DICOM file")
    pixels = required("pydicom.pixels", "a DICOM file")
    dataset = pydicom.dcmread(stream)
    values = pixels.pixel_array(dataset, index=0)
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        count, _, depth = map(int, dataset.RedPaletteColorLookupTableDescriptor)
        if depth == 8 and not 0 < count <= 256:  # pydicom would index such a table by the low 8 bits of a value only
            raise ValueError("its palette has more than 256 entries of 8 bits; save it as RGB")
        values = pixels.apply_color_lut(values, dataset)
        bits = 8 * values.dtype.itemsize
    if values.ndim == 3:
        values = np.rint(values.astype(np.float32) * np.float32(255 / (2**bits - 1))).clip(0, 255)
        return Image.fromarray(values.astype(np.uint8)[..., :3])
    values = np.asarray(pixels.apply_modality_lut(values, dataset), np.float32)
    shown = True
    if table := dataset.get("VOILUTSequence"):
        values = _looked_up(values, table[0], dataset)
    elif limits := _window_range(dataset, pixels):
        values = np.asarray(pixels.apply_windowing(values, dataset), np.float32)
        values = (values - limits[0]) * (255 / (limits[1] - limits[0]))
    else:
        shown = False
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    image = Image.fromarray(255 - values if inverted and shown else values)
    image.info["shown"], image.info["inverted"] = shown, inverted and not shown
    return image


def _looked_up(values: np.ndarray, table: Any, dataset: Any) -> np.ndarray:
    """Apply a VOI lookup table: values of 0-255.

    pydicom's own function is not used: it indexes a table with entries of 8 bits by the low 8 bits of a value only.
    """
    count, first, bits = map(int, table.LUTDescriptor)
    entries = table.LUTData
    if isinstance(entries, bytes):
        count = count or 65_536
        order = "<" if dataset.original_encoding[1] else ">"
        entries = np.frombuffer(entries, f"{order}u2" if len(entries) >= 2 * count else np.uint8)
    entries = np.atleast_1d(np.asarray(entries, np.float32))[: count or 65_536]
    places = (np.rint(values) - first).clip(0, len(entries) - 1).astype(np.intp)
    return np.asarray(entries[places] * np.float32(255 / (2**bits - 1)), np.float32)


def _window_range(dataset: Any, pixels: Any) -> tuple[float, float] | None:
    """The lowest and highest output value of the window; None if the file has no window."""
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    low, high = np.asarray(pixels.apply_windowing(np.array([-WIDEST, WIDEST]), dataset), float)
    return (float(low), float(high)) if high > low else None


def frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)
