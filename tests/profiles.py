"""ICC profiles whose effect is plain to see, written by hand because no library of the tests writes any."""

from __future__ import annotations

import struct

D50 = (0.9642, 1.0, 0.8249)
# sRGB's primaries as seen under D50, and its curve.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
SRGB_CURVE = [
    level / 255 / 12.92 if level / 255 <= 0.04045 else ((level / 255 + 0.055) / 1.055) ** 2.4 for level in range(256)
]

Curve = float | list[float]


def rgb(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], curve: Curve) -> bytes:
    """Return a profile of an RGB space with these primaries; *curve* is a gamma, or how light each level is."""
    primaries = {b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", primaries | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)))


def grey(curve: Curve) -> bytes:
    """Return a profile of a grey space; *curve* as above."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(curve)})


def press(cyan: tuple[float, float, float]) -> bytes:
    """Return a profile of CMYK printing on white whose cyan ink is *cyan*, in CIE Lab, and all others black."""
    corners = [(100.0, 0.0, 0.0), *[(0.0, 0.0, 0.0)] * 7, cyan, *[(0.0, 0.0, 0.0)] * 7]  # of the cube of C, M, Y, K
    levels = [(lightness * 655.36, (a + 128) * 256, (b + 128) * 256) for lightness, a, b in corners]
    ramp = struct.pack(">HH", 0, 65535)
    matrix = struct.pack(">9i", *(65536 if place in (0, 4, 8) else 0 for place in range(9)))
    table = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + struct.pack(">HH", 2, 2) + ramp * 4
    table += (
        b"".join(struct.pack(">3H", *(min(65535, round(level)) for level in colour)) for colour in levels) + ramp * 3
    )
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(curve: Curve) -> bytes:
    points = [round(level * 65535) for level in curve] if isinstance(curve, list) else [round(curve * 256)]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(points)}H", len(points), *points)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79), b"wtpt": _xyz(D50), **tags}
    tags = {name: content + bytes(-len(content) % 4) for name, content in tags.items()}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    date = struct.pack(">6H", 2026, 1, 31, 12, 0, 0)
    head = (
        struct.pack(">I", start + len(body)) + bytes(4) + b"\x02\x10\0\0" + kind + space + connection + date + b"acsp"
    )
    light = _xyz(D50)[8:]
    return head + bytes(28) + light + bytes(128 - len(head) - 28 - len(light)) + table + body
