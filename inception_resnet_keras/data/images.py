"""Decoding picture files of any mode to RGB pixels, with a reason for each file that cannot be decoded."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from ..common.errors import InputError
from ..common.files import IrregularFileError, open_regular, read_start
from ..common.packages import MissingPackageError
from . import dicom

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", *dicom.SUFFIXES)
KINDS = "JPEG, PNG, WebP, BMP, GIF, TIFF or DICOM"
MAX_PIXELS = 64 * 1024 * 1024  # 192 MiB once decoded; a scanner's A4 page at 600 dpi has 35 million
# Largest width and height, which is also a JPEG's limit. It bounds the memory of a resize too, whose first step makes a
# picture of the old height and the new width: 65,535 × 299 is 20 million pixels.
MAX_SIDE = 65_535
# How a picture is decoded: by TensorFlow, its crop only; by TensorFlow, the whole picture; by `read_image`.
JPEG, PLAIN, PILLOW = range(3)
PNG_SIGNATURE = 8  # bytes
HEADER_BYTES = 4096  # longer headers are read by Pillow
_JPEG_SCAN, _JPEG_FRAMES = 0xFFDA, (0xFFC0, 0xFFC1, 0xFFC2)
_PNG_LENGTHS = {b"gAMA": 4, b"sRGB": 1, b"pHYs": 9}  # lengths of the chunks that do not change pixels
# The modes that TensorFlow decodes to the same pixels as `read_image`; all others are decoded by Pillow.
_PLAIN_MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P"), "WEBP": ("RGB",)}
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # more than 8 bits; only in PNG, TIFF and DICOM files
_NO_16_BITS = ("I", "F")  # 32-bit integers, and floating-point numbers
SIXTEEN_BITS = (0.0, 65_535.0)  # the range of unsigned 16-bit values that are read without one
# Pillow keeps only the upper byte of 16-bit colours. Asked for the other byte order, it keeps the lower byte instead.
_LOWER_BYTE = {
    f"{layers};16{order}": f"{layers};16{'L' if order == 'B' or (order == 'N' and sys.byteorder == 'big') else 'B'}"
    for layers in ("RGB", "RGBX", "RGBA")
    for order in "BLN"
}
_DEEP_OPAQUE_GREY = "LA;16B"  # 16-bit grey with opacity, in a PNG
_DEEP_INK = ("CMYK;16B", "CMYK;16L", "CMYK;16N")
_PREMULTIPLIED = ("RGBa;16B", "RGBa;16L", "RGBa;16N")
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE, _UNSIGNED, _SIGNED = 0, 2, 1, 2  # values of these tags
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TOO_LARGE = f"at most {MAX_PIXELS:,} pixels, and {MAX_SIDE:,} of width and of height, are read; make it smaller first"


class UnreadableImageError(InputError):
    """Raised for a picture that cannot be read. `path` is its file, `reason` the message without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class OversizeImageError(UnreadableImageError):
    """Raised for a picture that is too large according to its header, before anything is decoded."""


def read_image(
    path: Path,
    size: tuple[int, int] | None = None,
    *,
    crop: float = 1.0,
    content: bytes | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decode a picture to RGB pixels.

    Args:
        path: A JPEG, PNG, WebP, BMP, GIF, TIFF or DICOM file, recognised by its content, not its name. If it has
            several frames or pages, the first is read. It is turned upright by its EXIF orientation.
        size: (height, width) to resize to, bilinear with antialiasing. None keeps the picture's own size.
        crop: The share of each side, about the middle, that is resized, in (0, 1]; 1 for the whole
            picture. Ignored without `size`.
        content: The bytes of the file, if they are already read; `path` is then only used in error messages.
        value_range: The values that become 0 and 255 in a picture of more than 8 bits; values outside are clipped.
            None means 0 to 65535 for unsigned 16-bit values. 32-bit values and DICOM files without a window cannot be
            read without it.

    Returns:
        uint8 (height, width, 3), RGB, 0-255. Grey, palette, CMYK and deeper pictures are converted; transparent
        pixels are blended with white.

    Raises:
        UnreadableImageError: The file is missing, not a regular file, not a picture of these formats, corrupt or
            truncated; or its header gives more than `MAX_PIXELS` pixels or a side of more than `MAX_SIDE`, which is
            checked before anything is decoded.
    """
    if size is None:
        return np.asarray(decode(path, content=content, value_range=value_range))
    enough = (size[0] / crop, size[1] / crop)
    return np.asarray(resized(decode(path, enough, content=content, value_range=value_range), size, crop))


def decode(
    path: Path,
    enough: tuple[float, float] | None = None,
    *,
    content: bytes | None = None,
    value_range: tuple[float, float] | None = None,
) -> Image.Image:
    """Decode a picture to a Pillow image, RGB and upright; the other arguments and the errors are as in `read_image`.

    Args:
        enough: The largest (height, width) to which the whole picture will be resized. A JPEG may then be decoded at a
            fraction of its size, which is at least twice `enough`.
    """
    with open_image(path, content) as file:
        if enough is not None and file.format == "JPEG":
            # Choose the smallest fraction that is at least twice `enough`.
            file.draft("RGB", (round(2 * enough[1]), round(2 * enough[0])))
        if _is_deep_colour(file) and (value_range is not None or _rawmode(file) == _DEEP_OPAQUE_GREY):
            return _scaled_colour(_deep_colour(path, file, content), value_range or SIXTEEN_BITS)
        image = _pixels(file)
        white_is_zero = _tag(file, _PHOTOMETRIC) == _WHITE_IS_ZERO or bool(image.info.get("inverted"))
        return _rgb(_unsigned(ImageOps.exif_transpose(image), file), value_range, white_is_zero)


@dataclass(frozen=True)
class Depth:
    """The values of a picture of more than 8 bits, and whether the file has several pages.

    Attributes:
        values: The lowest and highest value; None for 8 bits, and for a DICOM file that specifies its display.
        whole: Whether the values are unsigned integers of at most 16 bits.
        pages: Whether there are pages after the first.
    """

    values: tuple[float, float] | None
    whole: bool
    pages: bool


def read_depth(path: Path, content: bytes | None = None) -> Depth:
    """The depth of a picture, which is decoded if it has more than 8 bits. Raises the errors of `decode`."""
    with open_image(path, content) as file:
        # A JPEG with a preview or a second view, as phones write them, is one picture to its user.
        pages = file.format != "MPO" and bool(getattr(file, "is_animated", False))
        if _is_deep_colour(file):
            colour = _deep_colour(path, file, content)[..., :3]
            return Depth((float(colour.min()), float(colour.max())), True, pages)
        if file.mode not in _DEEP_MODES:
            return Depth(None, True, pages)
        image = _pixels(file)
        if image.info.get("shown") or image.mode not in _DEEP_MODES:
            return Depth(None, True, pages)
        values = np.asarray(_unsigned(image, file))
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise UnreadableImageError(path, "holds no finite value")
        low, high = float(finite.min()), float(finite.max())
        return Depth((low, high), image.mode not in _NO_16_BITS, pages)


def _tag(file: Image.Image, tag: int) -> object:
    """The value of a TIFF file's tag, the first of several; None for files of other formats."""
    value = getattr(file, "tag_v2", {}).get(tag) if file.format == "TIFF" else None
    return value[0] if isinstance(value, tuple) and value else value


def _unsigned(image: Image.Image, file: Image.Image) -> Image.Image | np.ndarray:
    """The picture; or an array if the values are unsigned 32-bit integers, for which Pillow has no mode."""
    if image.mode == "I" and _tag(file, _BITS) == 32 and _tag(file, _SAMPLE_FORMAT) in (None, _UNSIGNED):
        return np.asarray(image).view(np.uint32)
    return image


def _is_deep_colour(file: Image.Image) -> bool:
    return _rawmode(file) in (*_LOWER_BYTE, _DEEP_OPAQUE_GREY)


def _rawmode(file: Image.Image) -> str:
    """Pillow's name for the pixel layout of the file, such as "RGB;16B"; "" if there is none."""
    if not (tiles := getattr(file, "tile", None)):
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _deep_colour(path: Path, file: Image.Image, content: bytes | None) -> np.ndarray:
    """uint16 (height, width, 3 or 4): the pixels of a picture of 16-bit colours, upright.

    Pillow reads one byte of each value only, so that the file is decoded twice, once for each byte.
    """
    raw = _rawmode(file)
    with open_image(path, content) as again:
        assert isinstance(again, ImageFile.ImageFile)
        other = "RGBA" if raw == _DEEP_OPAQUE_GREY else _LOWER_BYTE[raw]
        again.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in again.tile
        ]
        second = np.asarray(ImageOps.exif_transpose(again), np.uint16)
        if raw == _DEEP_OPAQUE_GREY:  # its two layers of two bytes each are read as four layers of one byte
            grey = second[..., ::2] << 8 | second[..., 1::2]
            return grey[..., [0, 0, 0, 1]]
        colour: np.ndarray = np.asarray(ImageOps.exif_transpose(file), np.uint16) << 8 | second
        key = file.info.get("transparency")  # in a PNG, the single colour that counts as transparent
        if not isinstance(key, tuple) or colour.shape[-1] != len(key):
            return colour
        opacity = np.where((colour == np.array(key)).all(axis=-1, keepdims=True), 0, 65_535)
        return np.concatenate([colour, opacity.astype(np.uint16)], axis=-1)


def _refuse_misread(path: Path, file: Image.Image) -> None:
    """Raise UnreadableImageError for TIFF files that Pillow would decode to wrong pixels."""
    bits = _tag(file, _BITS)
    if bits == 8 and _tag(file, _SAMPLE_FORMAT) == _SIGNED:
        raise UnreadableImageError(path, "holds signed 8-bit values; save them unsigned, or with 16 bits")
    if bits != 8 and _tag(file, _PLANES) == _SEPARATE and len(file.getbands()) > 1:
        raise UnreadableImageError(path, f"holds {bits}-bit colours in separate planes; save them interleaved")
    if _rawmode(file) in _PREMULTIPLIED:
        reason = "holds 16-bit colours premultiplied by their opacity; save them not premultiplied, or with 8 bits"
        raise UnreadableImageError(path, reason)
    if _rawmode(file) in _DEEP_INK:
        raise UnreadableImageError(path, "holds 16-bit CMYK; save it as RGB, or with 8 bits")


def _pixels(file: Image.Image) -> Image.Image:
    """The picture; a DICOM file is decoded by pydicom."""
    return file.decoded() if isinstance(file, _DicomImage) else file


class _DicomImage(Image.Image):
    """A DICOM file whose header is read: size, mode and number of frames, with the interface of Pillow's own files."""

    format = "DICOM"

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        header = dicom.read_dicom_header(stream)
        self._size = (int(header.Columns), int(header.Rows))
        self._mode = "F" if int(header.get("SamplesPerPixel", 1)) == 1 else "RGB"
        self.is_animated = dicom.frames(header) > 1

    def getexif(self) -> Image.Exif:
        return Image.Exif()

    def decoded(self) -> Image.Image:
        self._stream.seek(0)
        image = dicom.read_dicom(self._stream)
        if image.size != self.size:
            raise ValueError(f"it holds {image.width}×{image.height} pixels, but its header gives another size")
        return image


REDUCING_GAP = 2.0  # blocks of pixels are averaged first, down to at least twice the target size


def resized(image: Image.Image, size: tuple[int, int], crop: float = 1.0) -> Image.Image:
    """Resize the middle of a picture, `crop` of each side, to (height, width), bilinear with antialiasing.

    The columns are resized first, then the rows, and the values are rounded in between. Left to itself, Pillow chooses
    the order by its version and the sizes, and one value in eight would differ by 1. `deploy.decoding` computes the
    same in a graph.
    """
    if crop == 1 and image.size == (size[1], size[0]):
        return image
    left, top = (side * (1 - crop) / 2 for side in image.size)
    columns = (left, 0, image.width - left, image.height)
    narrow = image.resize((size[1], image.height), Image.Resampling.BILINEAR, columns, reducing_gap=REDUCING_GAP)
    rows = (0, top, size[1], image.height - top)
    return narrow.resize((size[1], size[0]), Image.Resampling.BILINEAR, rows, reducing_gap=REDUCING_GAP)


@contextmanager
def open_image(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture with Pillow: read its header and check its size, but decode nothing.

    Any exception of a decoder within the block is raised as an UnreadableImageError.
    """
    try:
        with _opened(path, content) as stream, _image_of(stream) as file:
            _refuse_oversize(path, file.size)
            _refuse_misread(path, file)
            yield file
    except (UnreadableImageError, MissingPackageError):
        raise
    except IrregularFileError as error:
        raise UnreadableImageError(path, error.strerror) from None
    except FileNotFoundError:
        gone = "is a link to a file that does not exist" if path.is_symlink() else "there is no such file"
        raise UnreadableImageError(path, gone) from None
    except IsADirectoryError:
        raise UnreadableImageError(path, "is a folder, not a picture") from None
    except Image.UnidentifiedImageError:
        start = _start(path, content)
        if not start:
            raise UnreadableImageError(path, "is empty") from None
        if start in _TIFF_STARTS:
            reason = (
                "is a TIFF file that is damaged or of an unsupported kind; save it as 8-, 16- or 32-bit grey, or as 8- "
                "or 16-bit RGB"
            )
            raise UnreadableImageError(path, reason) from None
        raise UnreadableImageError(path, f"is not a {KINDS} file, or its header is damaged") from None
    except Image.DecompressionBombError:  # Pillow's own limit, which is higher than MAX_PIXELS
        raise OversizeImageError(path, f"is too large: {_TOO_LARGE}") from None
    except Exception as error:  # decoders raise exceptions of any kind for damaged or hostile files
        raise UnreadableImageError(path, f"cannot be decoded ({error or type(error).__name__})") from error


def _image_of(stream: IO[bytes]) -> Image.Image:
    start = stream.read(dicom.PREAMBLE + len(dicom.MARK))
    stream.seek(0)
    return _DicomImage(stream) if dicom.is_dicom(start) else Image.open(stream, formats=FORMATS)


def _start(path: Path, content: bytes | None) -> bytes:
    """The first four bytes of a file."""
    with _opened(path, content) as stream:
        return stream.read(4)


def _opened(path: Path, content: bytes | None) -> IO[bytes]:
    return open_regular(path) if content is None else BytesIO(content)


def header(path: str | Path, content: bytes | None = None) -> tuple[int, int, int]:
    """(height, width, kind) of a picture, from its header; raises UnreadableImageError if it has no valid header."""
    return _plain_header(path, content) or _pillow_header(Path(path), content)


def _pillow_header(path: Path, content: bytes | None) -> tuple[int, int, int]:
    with open_image(path, content) as file:
        width, height = file.size
        # `getexif` would decode a whole PNG to look for an orientation after its pixels, so ask only if there is one.
        exif = file.format != "PNG" or "exif" in file.info or _exif_at_end(path, content)
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1) if exif else 1
        if orientation in (5, 6, 7, 8) and file.format != "TIFF":  # Pillow reports a TIFF's size already upright
            height, width = width, height
        plain = file.mode in _PLAIN_MODES.get(file.format or "", ()) and not has_transparency(file)
        plain = plain and not _is_deep_colour(file)
        animated = getattr(file, "is_animated", False)
        if orientation != 1 or not plain or animated:
            return height, width, PILLOW
        return height, width, JPEG if file.format == "JPEG" else PLAIN


def _plain_header(path: str | Path, content: bytes | None) -> tuple[int, int, int] | None:
    """The header of a plain JPEG or PNG file, as most are, in a fifth of Pillow's time; None if Pillow must read it."""
    try:
        start = read_start(path, HEADER_BYTES) if content is None else content[:HEADER_BYTES]
        if start.startswith(b"\xff\xd8\xff"):
            size, kind = _jpeg_size(start), JPEG
        elif start.startswith(b"\x89PNG\r\n\x1a\n"):
            size, kind = _png_size(start), PLAIN
            whole = start if len(start) < HEADER_BYTES else content
            if size and _exif_at_end(Path(path), whole):
                return None
        else:
            return None
    except (OSError, ValueError, struct.error):  # ValueError: the path is not a valid path
        return None
    if size is None or not all(0 < side <= MAX_SIDE for side in size) or size[0] * size[1] > MAX_PIXELS:
        return None
    return (*size, kind)


def _jpeg_size(start: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey or colour JPEG without rotation and with one frame, otherwise None.

    Raises struct.error if `start` ends before the header does.
    """
    place, size = 2, None
    while True:
        marker, length = struct.unpack_from(">HH", start, place)
        segment = start[place + 4 : place + 2 + length]
        if len(segment) != length - 2:
            return None
        if marker == _JPEG_SCAN:
            return size
        if marker in _JPEG_FRAMES:
            bits, height, width, layers = struct.unpack_from(">BHHB", segment)
            if size or bits != 8 or layers not in (1, 3) or len(segment) != 6 + 3 * layers:
                return None
            size = height, width
        elif not _is_plain_segment(marker, segment):
            return None
        place += 2 + length


def _is_plain_segment(marker: int, segment: bytes) -> bool:
    """Whether a JPEG segment is valid for Pillow and does not hold an orientation."""
    if marker == 0xFFDB:  # quantisation tables of 8 bits
        return len(segment) % 65 == 0 and all(number < 16 for number in segment[::65])
    if marker in (0xFFE0, 0xFFEE):  # JFIF's and Adobe's
        return len(segment) >= 12
    if marker == 0xFFE2:
        return segment.startswith(b"ICC_PROFILE\0") and len(segment) >= 14
    return marker in (0xFFC4, 0xFFDD, 0xFFFE)  # Huffman tables, restart interval, comment


def _png_size(start: bytes) -> tuple[int, int] | None:
    """(height, width) of an opaque 8-bit grey, RGB or palette PNG without animation, otherwise None.

    Raises struct.error if `start` ends before the header does.
    """
    place, size, palette = PNG_SIGNATURE, None, True
    while True:
        length, kind = struct.unpack_from(">I4s", start, place)
        if kind == b"IDAT":
            return size if palette else None
        data = start[place + 8 : place + 8 + length]
        [checksum] = struct.unpack_from(">I", start, place + 8 + length)
        if zlib.crc32(kind + data) != checksum or (kind == b"IHDR") != (size is None):
            return None
        if kind == b"IHDR":
            width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data)
            if depth != 8 or colour not in (0, 2, 3) or compression or filtering or interlace > 1:
                return None
            size, palette = (height, width), colour != 3
        elif kind == b"PLTE" and length % 3 == 0 and 0 < length <= 768:
            palette = True
        elif _PNG_LENGTHS.get(kind) != length:
            return None
        place += 12 + length


def _exif_at_end(path: Path, content: bytes | None) -> bool:
    """Whether a PNG has an eXIf chunk, also after its pixels. The chunks' data is skipped, not read."""
    with _opened(path, content) as file:
        file.seek(PNG_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"eXIf", b"IEND"):
                return kind == b"eXIf"
            file.seek(length + 4, os.SEEK_CUR)  # its data and checksum
    return False


def _refuse_oversize(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise OversizeImageError(path, f"is {width}×{height}: {_TOO_LARGE}")


def _rgb(image: Image.Image | np.ndarray, value_range: tuple[float, float] | None, white_is_zero: bool) -> Image.Image:
    if isinstance(image, np.ndarray) or image.mode in _DEEP_MODES:
        if not isinstance(image, np.ndarray) and image.info.get("shown"):
            value_range = (0.0, 255.0)
        elif value_range is None and (isinstance(image, np.ndarray) or image.mode in _NO_16_BITS):
            raise ValueError(
                "its values have more than 16 bits, or are measured values: give the values for black and white as "
                "value_range"
            )
        grey = _scaled(np.asarray(image), value_range or SIXTEEN_BITS)
        return Image.fromarray(255 - grey if white_is_zero else grey).convert("RGB")
    return _flat(image)


def _flat(image: Image.Image) -> Image.Image:
    """Convert an 8-bit picture to RGB; transparent pixels are blended with white."""
    if has_transparency(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scaled_colour(colour: np.ndarray, value_range: tuple[float, float]) -> Image.Image:
    """Convert 16-bit RGB or RGBA to RGB. The value range does not apply to the opacity, which always has 16 bits."""
    layers = [_scaled(colour[..., :3], value_range), _scaled(colour[..., 3:], SIXTEEN_BITS)]
    return _flat(Image.fromarray(np.concatenate(layers, axis=-1)))


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _scaled(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Scale values to uint8: the ends of the range become 0 and 255; NaN becomes 0."""
    low, high = value_range
    # float32 has 24 significant bits: enough for 16-bit integers and for floats. 32-bit integers need float64.
    enough = np.float64 if values.dtype.kind in "iu" and values.dtype.itemsize == 4 else np.float32
    shifted = np.subtract(values, low, dtype=enough)
    scaled = np.nan_to_num(shifted * enough(255 / (high - low)), nan=0.0)
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)
