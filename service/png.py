"""What a PNG says of itself, held against what it holds; Pillow takes both on trust.

    chunks (checksums, order) > header > [pixel limit: the caller's] > pixels counted > transparency

Pillow leaves rows that are missing black, compares a transparent colour with pixels of another
depth, and keeps one byte of a 16-bit sample. Here pixels are inflated in pieces to be counted;
their values are left to Pillow. Bytes after the last chunk, or after the compressed stream, are
ignored, and ancillary chunks are checked for damage, not for sense.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from service.errors import ImageDamaged, ImageTruncated

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}  # of one pixel
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}  # the others have 8 or 16 bits
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # who does not know another cannot decode
_ONCE = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"iCCP")  # each profile costs an inflation

_READ = (*_CRITICAL, b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_XMP = b"XML:com.adobe.xmp\0\0"  # not compressed, as is its rule

# The seven passes of an interlaced image: left, top, and the steps across and down.
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)

_FED = 1 << 16  # compressed bytes at a time: the inflater copies what it has not used yet
_PIECE = 1 << 18  # inflated bytes at a time


@dataclass(frozen=True, slots=True)
class Png:
    """The header, and the contents of the tRNS chunk (or none) and of all IDAT chunks.

    `essential` is the file without chunks that have no say in pixels, colours or orientation:
    Pillow refuses one for a large colour profile or text, and for odd ancillary chunks.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    transparent: bytes
    compressed: bytes
    essential: bytes
    is_plain: bool  # 8-bit grey or RGB, with nothing but pixels

    @property
    def passes(self) -> Iterator[tuple[int, int]]:
        """Rows, and bytes of a row with its filter type, of each pass that has pixels."""
        for left, top, across, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            width = (self.width - left + across - 1) // across
            height = (self.height - top + down - 1) // down
            if width and height:
                yield height, 1 + (width * self.depth * _SAMPLES[self.colour] + 7) // 8


def parse(data: bytes) -> Png:
    """The file up to its last chunk, nothing inflated.

    Raises:
        ImageTruncated: the file ends before that.
        ImageDamaged: a checksum is wrong, the header makes no sense, or a chunk is out of place.
    """
    chunks = _chunks(data)
    before, whole = next(chunks)
    header = whole[8:-4]
    if before != b"IHDR" or len(header) != 13:
        raise ImageDamaged
    width, height, depth, colour, *methods, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _SAMPLES or depth not in _DEPTHS.get(colour, (8, 16)):
        raise ImageDamaged
    if not (width and height) or any(methods) or interlaced > 1:
        raise ImageDamaged
    seen = {before: header}
    compressed = bytearray()
    kept = [memoryview(SIGNATURE), whole]
    is_plain = depth == 8 and colour in (_GREY, _RGB)
    for kind, whole in chunks:
        content = whole[8:-4]
        if _is_misplaced(kind, content, before, seen):
            raise ImageDamaged
        if kind == b"IDAT":
            compressed += content
        if kind == b"IDAT" or kind in _ONCE:
            seen[kind] = content
        if kind in _READ or (kind == b"iTXt" and content[: len(_XMP)] == _XMP):
            kept.append(whole)
            is_plain = is_plain and kind in (b"IDAT", b"IEND")
        before = kind
    if colour == _PALETTE and b"PLTE" not in seen:
        raise ImageDamaged
    transparent = bytes(seen.get(b"tRNS", b""))
    if transparent and colour in (_GREY, _RGB) and len(transparent) != 2 * _SAMPLES[colour]:
        raise ImageDamaged
    return Png(
        *(width, height, depth, colour, bool(interlaced)),
        *(transparent, bytes(compressed), b"".join(kept), is_plain),
    )


def announced_pixels(data: bytes) -> int:
    """Pixels by the header, which is where a PNG must have it; nothing is checked."""
    return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and bytes of each chunk, IEND the last; the signature is taken as seen.

    The contents are all but the first eight bytes, length and kind, and the checksum's last four.
    """
    view = memoryview(data)
    kind, at = b"", len(SIGNATURE)
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(view[at : at + 4])
        if len(data) < max(end, at + 12):
            raise ImageTruncated
        checksum = zlib.crc32(view[at + 4 : end - 4])
        if not kind.isalpha() or checksum != int.from_bytes(view[end - 4 : end]):
            raise ImageDamaged
        yield kind, view[at:end]
        at = end


def _is_misplaced(
    kind: bytes, content: memoryview, before: bytes, seen: dict[bytes, memoryview]
) -> bool:
    """Whether decoders could differ on where the pixels are, or on what they mean."""
    past = b"IDAT" in seen
    if kind == b"IDAT":
        return past and before != b"IDAT"
    if kind == b"fdAT":  # a later frame, which Pillow would take for the image
        return not past
    if kind == b"fcTL":  # first frame: its place and size are the image's, or Pillow cuts it
        return not past and content[4:20] != bytes(seen[b"IHDR"][:8]) + bytes(8)
    if kind in (b"PLTE", b"tRNS") and past:
        return True
    return kind in seen or (kind[:1].isupper() and kind not in _CRITICAL)


def check_pixels(png: Png) -> None:
    """Inflates the pixels and counts them. What this costs follows from the header's size.

    Raises:
        ImageTruncated: the compressed stream, or its checksum, ends too early.
        ImageDamaged: it cannot be inflated, or holds more than the pixels.
    """
    total = sum(rows * stride for rows, stride in png.passes)
    sizes = (min(_PIECE, total - start) for start in range(0, total, _PIECE))
    for _ in _inflate(png.compressed, sizes):
        pass


def decode_plain(png: Png) -> Image.Image:
    """A plain image by Pillow's decoder alone, without its reader of chunks; pixels were checked.

    Raises:
        ValueError: a row has a filter that there is not.
    """
    mode = "L" if png.colour == _GREY else "RGB"
    size = (png.width, png.height)
    return Image.frombytes(mode, size, png.compressed, "zip", mode, png.interlaced)


def _inflate(compressed: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Pieces of the given sizes, which must make up the stream."""
    inflater = zlib.decompressobj()
    feed = (compressed[at : at + _FED] for at in range(0, len(compressed), _FED))

    def inflate(size: int) -> bytes:
        """Less than `size` only at the end of the stream."""
        parts = []
        while size and not inflater.eof:
            source = inflater.unconsumed_tail or next(feed, b"")
            part = inflater.decompress(source, size)
            if not (part or source):
                raise ImageTruncated
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    try:
        for size in sizes:
            piece = inflate(size)
            if len(piece) < size:
                raise ImageTruncated
            yield piece
        if inflate(1):  # nothing is left, and asking for it reads the stream's checksum
            raise ImageDamaged
    except zlib.error:
        raise ImageDamaged from None


def is_transparent(png: Png, image: Image.Image) -> bool:
    """Whether any pixel is less than opaque; `image` is the file as Pillow decoded it."""
    if png.colour in (_GREY_ALPHA, _RGBA):
        return not _is_opaque(image) or (png.depth == 16 and not _is_opaque(_low_bytes(png)))
    if not png.transparent:
        return False
    if png.colour == _PALETTE:  # one alpha value for each of the first entries
        used = zip(image.histogram(), png.transparent, strict=False)
        return any(pixels and alpha < 255 for pixels, alpha in used)
    largest = (1 << png.depth) - 1
    samples = [sample & largest for (sample,) in struct.iter_unpack(">H", png.transparent)]
    if png.depth == 16 and png.colour == _RGB:
        found = _pixels_of(image, [sample >> 8 for sample in samples])
        if found.any():
            found &= _pixels_of(_low_bytes(png), [sample & 255 for sample in samples])
        return bool(found.any())
    if png.depth < 8:  # which Pillow stretches over 8 bits
        samples = [sample * 255 // largest for sample in samples]
    return bool(_pixels_of(image, samples).any())


def _is_opaque(image: Image.Image) -> bool:
    return image.getchannel("A").getextrema() == (255, 255)


def _pixels_of(image: Image.Image, colour: Iterable[int]) -> NDArray[np.bool_]:
    """Where an image has a colour."""
    image = image.convert("L") if image.mode == "1" else image
    found = np.ones((image.height, image.width), np.bool_)
    for band, sample in zip(image.split(), colour, strict=True):
        found &= np.asarray(band) == sample
    return found


def _low_bytes(png: Png) -> Image.Image:
    """What Pillow drops of 16-bit samples, as an 8-bit image.

    A filter predicts each byte from the same byte of neighbouring pixels. So the low bytes of
    filtered rows are filtered rows themselves, and Pillow can decode them.
    """
    packer = zlib.compressobj(level=0)  # no larger than the image that it becomes
    packed = bytearray()
    pieces = _inflate(png.compressed, (rows * stride for rows, stride in _blocks(png)))
    for piece, (rows, stride) in zip(pieces, _blocks(png), strict=True):
        filtered = np.frombuffer(piece, np.uint8).reshape(rows, stride)
        packed += packer.compress(filtered[:, ::2].tobytes())  # the filter type, then low bytes
    packed += packer.flush()
    header = struct.pack(">IIBBBBB", png.width, png.height, 8, png.colour, 0, 0, png.interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    image = PngImageFile(io.BytesIO(SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)))
    image.load()
    return image


def _blocks(png: Png) -> Iterator[tuple[int, int]]:
    """Rows, and bytes of a row, of pieces that hold whole rows; Pillow too holds a row or two."""
    for rows, stride in png.passes:
        step = max(1, _PIECE // stride)
        yield from ((min(step, rows - start), stride) for start in range(0, rows, step))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
