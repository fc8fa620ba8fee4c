"""The markers of a JPEG, walked as libjpeg walks them: is the end there, how many scans lead to it?

What the scans hold is not looked at. Knows neither Pillow nor pixels.
"""

import re

from service.errors import ImageDamaged, ImageTruncated

MAX_SCANS = 100  # encoders write about ten; each is a pass over all coefficients, however short

SIGNATURE = b"\xff\xd8"

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # a header of a frame, with its size
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# Whatever else follows 0xff has no length: a stuffed zero or a fill byte, a restart, a start of
# image, and the reserved codes, behind which libjpeg goes on where a restart is due. Coded data,
# and bytes that belong nowhere, are passed over with them.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")


def check_markers(data: bytes) -> None:
    """Up to the first end of image; previews and other bytes may follow it.

    Raises:
        ImageTruncated: no end of image. One inside a segment, as a thumbnail's, does not count.
        ImageDamaged: more than MAX_SCANS scans.
    """
    scans, at = 0, len(SIGNATURE)
    while marker := _MARKER.search(data, at):
        code = data[marker.end() - 1]
        if code == _END_OF_IMAGE:
            return
        if code == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageDamaged
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        at = marker.end() + max(2, length)  # which counts its own two bytes
    raise ImageTruncated


def announced_pixels(data: bytes) -> int:
    """The most pixels that a header before the first scan announces; nothing is checked."""
    pixels, at = 0, len(SIGNATURE)
    while marker := _MARKER.search(data, at):
        code, at = data[marker.end() - 1], marker.end()
        if code in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        if code in _FRAMES:
            height, width = data[at + 3 : at + 5], data[at + 5 : at + 7]
            pixels = max(pixels, int.from_bytes(height) * int.from_bytes(width))
        at += max(2, int.from_bytes(data[at : at + 2]))
    return pixels
