"""The markers of a JPEG, walked as libjpeg walks them: is the end there, how many scans lead to it?

What the scans hold is not looked at. Knows neither Pillow nor pixels.
"""

import re

from service.errors import ImageDamaged, ImageTruncated

MAX_SCANS = 100  # encoders write about ten; each is a pass over all coefficients, however short

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
    scans, at = 0, len(b"\xff\xd8")
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
