"""A picture file as an array of RGB pixels, whatever its mode, or a reason why not."""

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
_WITH_PAGES = (".tif", ".tiff", *dicom.SUFFIXES)
KINDS = "JPEG, PNG, WebP, BMP, GIF, TIFF or DICOM"
MAX_PIXELS = 64 * 1024 * 1024  # 192 MiB once decoded; a scanner's A4 page at 600 dpi has 35 million
# Of width and of height; a JPEG's own bound. It keeps a resize small too, which first makes a picture of the old height
# and the new width: 65,535 × 299 is 20 million pixels.
MAX_SIDE = 65_535
JPEG, PLAIN, PILLOW = range(3)  # how a picture is decoded: its crop only; by TensorFlow; by read_image
PNG_SIGNATURE = 8  # bytes
HEADER_BYTES = 4096  # a header that is longer is Pillow's to read
_JPEG_SCAN, _JPEG_FRAMES = 0xFFDA, (0xFFC0, 0xFFC1, 0xFFC2)
_PNG_LENGTHS = {b"gAMA": 4, b"sRGB": 1, b"pHYs": 9}  # of chunks that do not change pixels
# What TensorFlow decodes to the pixels that read_image gives; the rest takes Pillow's path.
_PLAIN_MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P"), "WEBP": ("RGB",)}
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # of more than 8 bits; only PNG, TIFF and DICOM have them
_NO_16_BITS = ("I", "F")  # 32-bit integers, and floating-point numbers
_16_BITS = (0.0, 65_535.0)
# Of colours of 16 bits Pillow keeps one byte, the upper one; where it is asked for the other byte order, the lower one.
_LOWER_BYTE = {
    f"{layers};16{order}": f"{layers};16{'L' if order == 'B' or (order == 'N' and sys.byteorder == 'big') else 'B'}"
    for layers in ("RGB", "RGBX", "RGBA")
    for order in "BLN"
}
_DEEP_OPAQUE_GREY = "LA;16B"  # grey with opacity in a PNG of 16 bits
_DEEP_INK = ("CMYK;16B", "CMYK;16L", "CMYK;16N")
_PREMULTIPLIED = ("RGBa;16B", "RGBa;16L", "RGBa;16N")
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
_WHITE_IS_ZERO, _SEPARATE, _UNSIGNED, _SIGNED = 0, 2, 1, 2  # their values
_TOO_LARGE = f"at most {MAX_PIXELS:,} pixels, and {MAX_SIDE:,} of width and of height, are read; make it smaller first"


class UnreadableImageError(InputError):
    """A picture that cannot be used: `path`, and `reason` without it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class OversizeImageError(UnreadableImageError):
    """A picture of more pixels than are read, which its header told before anything was decoded."""


def read_image(
    path: Path,
    size: tuple[int, int] | None = None,
    *,
    crop: float = 1.0,
    content: bytes | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decodes a picture.

    Args:
        path: A JPEG, PNG, WebP, BMP, GIF, TIFF or DICOM file, recognised by its content, not its name. Of several
            frames or pages the first is read. It is turned upright as its EXIF orientation says.
        size: (height, width) to resize to, bilinear with antialiasing; None leaves it as it is.
        crop: The share of each side, about the middle, that is resized, in (0, 1]; 1 for the whole
            picture. Without `size` it is not heeded.
        content: What the file holds, where that was read before; `path` then only names it.
        value_range: The values that become 0 and 255 where a picture has more than 8 bits; values outside are
            clipped. None is 0 to 65535 for unsigned 16-bit values. 32-bit values and DICOM files without a window
            cannot be read without it.

    Returns:
        uint8 (height, width, 3), RGB, 0-255. Grey, palette, CMYK and deeper pictures are converted;
        what is transparent is laid over white.

    Raises:
        UnreadableImageError: The file is missing, no regular file, no such picture, corrupt, truncated, or has
            more than `MAX_PIXELS` pixels or a side of more than `MAX_SIDE`, which its header tells before anything
            is decoded.
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
    """The picture as Pillow has it, RGB and upright; the other arguments and the errors are `read_image`'s.

    enough: (height, width) that it will be resized to at most, the whole of it: a JPEG may then come smaller
        than it is, never below twice that.
    """
    with open_image(path, content) as file:
        if enough is not None and file.format == "JPEG":
            # Decodes at a fraction where that is enough.
            file.draft("RGB", (round(2 * enough[1]), round(2 * enough[0])))
        if _is_deep_colour(file) and (value_range is not None or _rawmode(file) == _DEEP_OPAQUE_GREY):
            return _scaled_colour(_deep_colour(path, file, content), value_range or _16_BITS)
        white_is_zero = _tag(file, _PHOTOMETRIC) == _WHITE_IS_ZERO
        return _rgb(_unsigned(ImageOps.exif_transpose(_pixels(file)), file), value_range, white_is_zero)


@dataclass(frozen=True)
class Depth:
    """What a picture of more than 8 bits holds, or one of several pages.

    values: The lowest and highest value; None for 8 bits, and for a DICOM file that says how it is shown.
    whole: Whether the values are unsigned integers of 16 bits at most. pages: Whether pages follow the first one.
    """

    values: tuple[float, float] | None
    whole: bool
    pages: bool


def read_depth(path: Path, content: bytes | None = None) -> Depth:
    """The depth of a picture; decodes it if it has more than 8 bits. UnreadableImageError as for `decode`."""
    with open_image(path, content) as file:
        pages = file.format in ("TIFF", "DICOM") and bool(getattr(file, "is_animated", False))
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


def has_pages(path: Path) -> bool:
    """Whether a TIFF or DICOM file has pages or frames behind the first; False for a file that cannot be read."""
    if path.suffix.lower() not in _WITH_PAGES:
        return False
    try:
        with open_image(path) as file:
            return bool(getattr(file, "is_animated", False))
    except UnreadableImageError:
        return False


def _tag(file: Image.Image, tag: int) -> object:
    """The value of a TIFF file's tag, its first where it has several; None of another file."""
    value = getattr(file, "tag_v2", {}).get(tag) if file.format == "TIFF" else None
    return value[0] if isinstance(value, tuple) and value else value


def _unsigned(image: Image.Image, file: Image.Image) -> Image.Image | np.ndarray:
    """The picture; its values if these are unsigned integers of 32 bits, for which Pillow has no mode."""
    if image.mode == "I" and _tag(file, _BITS) == 32 and _tag(file, _SAMPLE_FORMAT) in (None, _UNSIGNED):
        return np.asarray(image).view(np.uint32)
    return image


def _is_deep_colour(file: Image.Image) -> bool:
    return _rawmode(file) in (*_LOWER_BYTE, _DEEP_OPAQUE_GREY)


def _rawmode(file: Image.Image) -> str:
    """How Pillow unpacks the file's pixels."""
    if not (tiles := getattr(file, "tile", None)):
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _deep_colour(path: Path, file: Image.Image, content: bytes | None) -> np.ndarray:
    """uint16 (height, width, 3 or 4) of a picture whose colours have 16 bits, upright."""
    raw = _rawmode(file)
    with open_image(path, content) as again:
        assert isinstance(again, ImageFile.ImageFile)
        other = "RGBA" if raw == _DEEP_OPAQUE_GREY else _LOWER_BYTE[raw]
        again.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in again.tile
        ]
        second = np.asarray(ImageOps.exif_transpose(again), np.uint16)
        if raw == _DEEP_OPAQUE_GREY:  # its two layers of two bytes, read as four layers
            grey = second[..., ::2] << 8 | second[..., 1::2]
            return grey[..., [0, 0, 0, 1]]
        colour: np.ndarray = np.asarray(ImageOps.exif_transpose(file), np.uint16) << 8 | second
        key = file.info.get("transparency")  # of a PNG, the one colour that is transparent
        if not isinstance(key, tuple) or colour.shape[-1] != len(key):
            return colour
        opacity = np.where((colour == np.array(key)).all(axis=-1, keepdims=True), 0, 65_535)
        return np.concatenate([colour, opacity.astype(np.uint16)], axis=-1)


def _refuse_misread(path: Path, file: Image.Image) -> None:
    """Refuses the TIFF files that Pillow opens and then decodes to wrong pixels."""
    bits = _tag(file, _BITS)
    if bits == 8 and _tag(file, _SAMPLE_FORMAT) == _SIGNED:
        raise UnreadableImageError(path, "holds signed values of 8 bits; save them unsigned, or as 16 bits")
    if bits != 8 and _tag(file, _PLANES) == _SEPARATE and len(file.getbands()) > 1:
        raise UnreadableImageError(path, f"holds colours of {bits} bits in separate planes; save them interleaved")
    if _rawmode(file) in _PREMULTIPLIED:
        reason = "holds colours of 16 bits that are multiplied by their opacity; save them without, or of 8 bits"
        raise UnreadableImageError(path, reason)
    if _rawmode(file) in _DEEP_INK:
        raise UnreadableImageError(path, "holds inks (CMYK) of 16 bits; save it as RGB, or with 8 bits")


def _pixels(file: Image.Image) -> Image.Image:
    """The picture itself; of a DICOM file what pydicom decodes."""
    return file.decoded() if isinstance(file, _DicomImage) else file


class _DicomImage(Image.Image):
    """A DICOM file whose header was read: size, mode and number of frames, as Pillow's own files have them."""

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
            raise ValueError(f"its pixels are {image.width}×{image.height} and its header says otherwise")
        return image


REDUCING_GAP = 2.0  # blocks of pixels are averaged first, as long as twice the size is left


def resized(image: Image.Image, size: tuple[int, int], crop: float = 1.0) -> Image.Image:
    """The middle of a picture, `crop` of each side, at (height, width), bilinear with antialiasing.

    The columns are resized first, then the rows, with whole numbers in between. Pillow would choose the order by its
    version and the sizes, and one value in eight would differ by 1; `deploy.decoding` computes the same in a graph.
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
    """The picture as Pillow opens it, its header read and its size checked, nothing decoded yet.

    Whatever a decoder then throws within the block is told as an UnreadableImageError.
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
        if _starts_as_tiff(path, content):
            reason = (
                "is a TIFF file that is damaged or of a kind that is not read; save it as grey values of 8, 16 or 32 "
                "bits, or as RGB of 8 or 16 bits"
            )
            raise UnreadableImageError(path, reason) from None
        raise UnreadableImageError(path, f"is no {KINDS} picture that can be read, or its header is damaged") from None
    except Image.DecompressionBombError:  # Pillow's own bound, which stands above ours
        raise OversizeImageError(path, f"is too large: {_TOO_LARGE}") from None
    except Exception as error:  # whatever a decoder throws at a damaged or hostile file
        raise UnreadableImageError(path, f"cannot be decoded ({error or type(error).__name__})") from error


def _image_of(stream: IO[bytes]) -> Image.Image:
    start = stream.read(dicom.PREAMBLE + len(dicom.MARK))
    stream.seek(0)
    return _DicomImage(stream) if dicom.is_dicom(start) else Image.open(stream, formats=FORMATS)


def _starts_as_tiff(path: Path, content: bytes | None) -> bool:
    with _opened(path, content) as stream:
        return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _opened(path: Path, content: bytes | None) -> IO[bytes]:
    return open_regular(path) if content is None else BytesIO(content)


def header(path: str | Path, content: bytes | None = None) -> tuple[int, int, int]:
    """(height, width, kind) of a picture, from its header; UnreadableImageError where it has none."""
    return _plain_header(path, content) or _pillow_header(Path(path), content)


def _pillow_header(path: Path, content: bytes | None) -> tuple[int, int, int]:
    with open_image(path, content) as file:
        width, height = file.size
        # Pillow decodes a whole PNG to look for an orientation behind its pixels.
        exif = file.format != "PNG" or "exif" in file.info or _exif_at_end(path, content)
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1) if exif else 1
        if orientation in (5, 6, 7, 8) and file.format != "TIFF":  # whose size Pillow gives as it will be upright
            height, width = width, height
        plain = file.mode in _PLAIN_MODES.get(file.format or "", ()) and not has_transparency(file)
        plain = plain and not _is_deep_colour(file)
        animated = getattr(file, "is_animated", False)
        if orientation != 1 or not plain or animated:
            return height, width, PILLOW
        return height, width, JPEG if file.format == "JPEG" else PLAIN


def _plain_header(path: str | Path, content: bytes | None) -> tuple[int, int, int] | None:
    """The same of the plain JPEG and PNG files that most are, in a fifth of the time; None where Pillow must look."""
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
    except (OSError, ValueError, struct.error):  # ValueError: of a path that no file can have
        return None
    if size is None or not all(0 < side <= MAX_SIDE for side in size) or size[0] * size[1] > MAX_PIXELS:
        return None
    return (*size, kind)


def _jpeg_size(start: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey or colour JPEG that is not turned and has one frame; struct.error if it ends."""
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
    """Whether a JPEG's segment says nothing of how its picture is turned, and is one that Pillow takes."""
    if marker == 0xFFDB:  # quantisation tables of 8 bits
        return len(segment) % 65 == 0 and all(number < 16 for number in segment[::65])
    if marker in (0xFFE0, 0xFFEE):  # JFIF's and Adobe's
        return len(segment) >= 12
    if marker == 0xFFE2:
        return segment.startswith(b"ICC_PROFILE\0") and len(segment) >= 14
    return marker in (0xFFC4, 0xFFDD, 0xFFFE)  # Huffman tables, restart interval, comment


def _png_size(start: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey, RGB or palette PNG of 8 bits, opaque and not animated; struct.error if it ends."""
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
    """Whether a PNG has an eXIf chunk behind its pixels; chunk after chunk is skipped."""
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
                "its values have more than 16 bits, or are no pixels yet: which of them are black and white must be "
                "given as value_range"
            )
        grey = _scaled(np.asarray(image), value_range or _16_BITS)
        return Image.fromarray(255 - grey if white_is_zero else grey).convert("RGB")
    return _flat(image)


def _flat(image: Image.Image) -> Image.Image:
    """RGB of a picture of 8 bits; what is transparent is laid over white."""
    if has_transparency(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scaled_colour(colour: np.ndarray, value_range: tuple[float, float]) -> Image.Image:
    """Colours of 16 bits, RGB or RGBA, as RGB; opacity always has all 16 bits."""
    layers = [_scaled(colour[..., :3], value_range), _scaled(colour[..., 3:], _16_BITS)]
    return _flat(Image.fromarray(np.concatenate(layers, axis=-1)))


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _scaled(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Values as uint8: the ends of the range become 0 and 255, NaN becomes 0."""
    low, high = value_range
    # float32 has 24 bits: enough for 16-bit integers, and for the floats that already have no more.
    enough = np.float64 if values.dtype.kind in "iu" and values.dtype.itemsize == 4 else np.float32
    shifted = np.subtract(values, low, dtype=enough)
    scaled = np.nan_to_num(shifted * enough(255 / (high - low)), nan=0.0)
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)
