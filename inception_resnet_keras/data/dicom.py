"""DICOM files: the first frame as grey values or RGB pixels, as the file asks to be shown. Needs pydicom."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from PIL import Image

from ..common.packages import required

PREAMBLE = 128  # bytes before the mark
MARK = b"DICM"
SUFFIXES = (".dcm", ".dicom")
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose size is only known once it was inflated
WIDEST = 1e12  # beyond every stored value: what a window makes of it is the end of the window's range


def is_dicom(start: bytes) -> bool:
    """Whether a file with this start is a DICOM file; `start` has 132 bytes at least."""
    return start[PREAMBLE : PREAMBLE + len(MARK)] == MARK


def read_dicom_header(stream: IO[bytes]) -> Any:
    """The elements before the pixels, as pydicom gives them.

    Raises:
        ValueError: The file is deflated or names no size.
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
    """The first frame: mode "RGB", or "F" with the values that the file says to show.

    Modality values, such as Hounsfield units, are computed from the stored ones. The first window or lookup table of
    values of interest is applied and makes them 0 to 255; without one they stay as they are. MONOCHROME1 is inverted.

    Raises:
        Exception: Whatever pydicom raises at a damaged file, or one whose compression needs a package that is missing.
    """
    pydicom = required("pydicom", "a DICOM file")
    pixels = required("pydicom.pixels", "a DICOM file")
    dataset = pydicom.dcmread(stream)
    values = pixels.pixel_array(dataset, index=0)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)
    if values.ndim == 3:
        if values.dtype == np.uint16:
            values = np.rint(values / 257)
        return Image.fromarray(values.astype(np.uint8)[..., :3])
    values = np.asarray(pixels.apply_modality_lut(values, dataset), np.float32)
    if limits := _shown_range(dataset, pixels):
        shown = np.asarray(pixels.apply_voi_lut(values, dataset), np.float32)
        values = (shown - limits[0]) * (255 / (limits[1] - limits[0]))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (255 - values) if limits else -values
    image = Image.fromarray(values)
    image.info["shown"] = bool(limits)
    return image


def _shown_range(dataset: Any, pixels: Any) -> tuple[float, float] | None:
    """The lowest and highest value that the window or lookup table gives; None where the file has none."""
    if table := dataset.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(table[0].LUTDescriptor[2]) - 1
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    low, high = np.asarray(pixels.apply_windowing(np.array([-WIDEST, WIDEST]), dataset), float)
    return (float(low), float(high)) if high > low else None


def frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)
