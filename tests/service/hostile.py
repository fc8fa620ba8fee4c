"""Files and bodies that are made to cost more than they weigh, or to mean two things at once."""

import io
import json
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from tests.service.toy import NATURAL, encode

_SIGNATURE, _IHDR = NATURAL[:8], 8 + 25
ZEROS = bytes(1 << 20)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, pixels: bytes, *before: bytes, colour: int = 0) -> bytes:
    """A PNG that says its size and holds these pixels, compressed; other chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"".join(
        (_SIGNATURE, header, *before, chunk(b"IDAT", zlib.compress(pixels, 9)), chunk(b"IEND", b""))
    )


def animated(kind: str) -> bytes:
    frames = [Image.new("L", (4, 4), level) for level in (0, 100, 200)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG of 8 by 8 whose header says another size."""
    data = bytearray(encode(np.zeros((8, 8), np.uint8), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of(width: int, height: int) -> bytes:
    """A lossless WebP of 8 by 8 whose header says another size, up to 16,384."""
    data = bytearray(encode(np.zeros((8, 8), np.uint8), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    data[at : at + 4] = (bits | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(data)


def texts(count: int) -> bytes:
    """A PNG with so many compressed texts, a megabyte each when it is unpacked."""
    info = PngImagePlugin.PngInfo()
    for number in range(count):
        info.add_text(f"key{number}", "x" * (1 << 20), zip=True)
    return encode(np.zeros((4, 4), np.uint8), pnginfo=info)


def profile(size: int) -> bytes:
    """A PNG with a colour profile of so many zeros."""
    content = b"bomb\0\0" + zlib.compress(bytes(size), 9)
    return png(4, 4, bytes(20), chunk(b"iCCP", content))


def exif(size: int) -> bytes:
    """A PNG whose Exif has a tag with so many values."""
    entry = struct.pack("<HHII", 0x0112, 3, size, 8)
    content = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    return png(4, 4, bytes(20), chunk(b"eXIf", content))


def multipart(parts: list[bytes], boundary: bytes = b"b") -> bytes:
    return (
        b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary
    )


def part(data: bytes, name: str = "file", file_name: str = "a.png", *headers: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{file_name}"'
    return "\r\n".join((disposition, *headers, "", "")).encode() + data


def zipped(data: bytes) -> bytes:
    """The image with a ZIP archive behind it, as a polyglot that opens as both."""
    import zipfile

    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("evil.txt", "evil")
    return file.getvalue()


def nested(depth: int) -> bytes:
    return b'{"image":' + b"[" * depth + b"]" * depth + b"}"


def odd_json(value: object) -> bytes:
    return json.dumps({"image": value}).encode()
