"""Colours: what a file says of them, as an ICC profile; and 8-bit levels from such a profile to sRGB."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

from ddpm.errors import PictureError

WHITE = (0.3127, 0.3290)  # D65
SRGB = (*WHITE, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue: x, y
D50 = np.array([0.9642, 1.0, 0.8249])  # of the space in which profiles meet
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # (a v + b)^g from the last on, below it c v
NEAR = 0.003  # of chromaticities that mean the same
NEAR_GAMMA = 0.01  # relative: less than a level

# ITU-T H.273, tables 2 and 3.
PRIMARIES = {
    1: SRGB,
    2: SRGB,  # unspecified
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*WHITE, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*WHITE, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*WHITE, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*WHITE, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*WHITE, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*WHITE, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# Video curves (1, 6, 14, 15) count as that of sRGB: pictures of both are made for the same displays.
CURVES = {**dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
HDR = {16: "PQ", 18: "HLG"}


def profile_of_codes(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """Of the codes of ITU-T H.273; None for sRGB. PictureError for those that 8-bit levels of sRGB cannot follow."""
    if transfer in HDR:
        raise PictureError(f"its colours are high dynamic range ({HDR[transfer]}); convert it to sRGB first")
    if primaries not in PRIMARIES or transfer not in CURVES:
        raise PictureError(f"its colours (cICP {primaries}/{transfer}) are not supported; convert it to sRGB first")
    return _profile_unless_srgb(PRIMARIES[primaries], CURVES[transfer], grey)


def profile_of_png(gamma: float | None, chromaticities, grey: bool) -> bytes | None:
    """Of what gAMA and cHRM say; None for sRGB. ValueError for what makes no sense."""
    near = gamma is None or abs(gamma / 0.45455 - 1) < NEAR_GAMMA
    if gamma is not None and not near and not 0.05 <= gamma <= 5:
        raise ValueError
    same = chromaticities is None or max(abs(a - b) for a, b in zip(chromaticities, SRGB)) < NEAR
    curve = SRGB_CURVE if gamma is None or (near and (same or grey)) else (1 / gamma,)
    return _profile_unless_srgb(SRGB if same else chromaticities, curve, grey)


def _profile_unless_srgb(chromaticities, curve, grey: bool) -> bytes | None:
    if curve == SRGB_CURVE and (grey or chromaticities == SRGB):
        return None
    return make_profile(chromaticities, curve, grey)


def make_profile(chromaticities, curve, grey=False) -> bytes:
    """A version 4 ICC profile of RGB with these primaries and curve (g) or (g, a, b, c, d), or of grey.

    ICC.1:2022, 8.3 and 10.18. ValueError for primaries that span nothing.
    """
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in _pairs(chromaticities))
    colours = np.stack(primaries, 1)
    cone = (BRADFORD @ D50) / (BRADFORD @ white)
    adapt = np.linalg.inv(BRADFORD) @ (cone[:, None] * BRADFORD)
    if not np.isfinite(colours).all() or abs(np.linalg.det(colours)) < 1e-3:
        raise ValueError("primaries that span nothing")
    matrix = adapt @ (colours * np.linalg.solve(colours, white))
    if not np.isfinite(matrix).all() or abs(matrix).max() > 100:
        raise ValueError("primaries that span nothing")
    fixed = lambda *values: b"".join(struct.pack(">i", round(float(v) * 65536)) for v in values)  # noqa: E731
    text = lambda words: struct.pack(  # noqa: E731
        f">4sIII2s2sII{2 * len(words)}s", b"mluc", 0, 1, 12, b"en", b"US", 2 * len(words), 28, words.encode("utf-16-be")
    )
    xyz = lambda v: b"XYZ " + bytes(4) + fixed(*v)  # noqa: E731
    trc = b"para" + bytes(4) + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + fixed(*curve)
    tags = {b"desc": text("made of what the picture says"), b"cprt": text("none"), b"wtpt": xyz(D50)}
    if grey:
        tags[b"kTRC"] = trc
    else:
        tags |= {b"chad": b"sf32" + bytes(4) + fixed(*adapt.flatten())}
        tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, matrix.T)))
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc)
    at, table, body, places = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b"", {}
    for name, value in tags.items():
        if value not in places:
            places[value] = at + len(body)
            body += value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", places[value], len(value))
    head = struct.pack(">4sI4s4s4s", bytes(4), 0x04300000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(*D50)
    whole = head.ljust(124, b"\0") + table + body
    return struct.pack(">I", len(whole) + 4) + whole


def _pairs(values):
    if min(values[1::2]) <= 0 or min(values) < -1 or max(values) > 2:
        raise ValueError("no chromaticities")
    return zip(values[::2], values[1::2])


def is_rgb(profile: bytes) -> bool:
    """Whether a profile is of RGB, so that a grey picture cannot have it."""
    return profile[16:20] == b"RGB "


def to_srgb(array: np.ndarray, profile: bytes) -> tuple[np.ndarray, str | None]:
    """Levels (H, W, 3) or (H, W) of a profile -> of sRGB; and what is wrong with the profile, if anything.

    What cannot be applied is not: then the levels are taken for sRGB. So they are where the profile moves no colour of
    a grid by more than one level, or has the primaries of sRGB but for rounding.
    """
    grey, rgb = array.ndim == 2, is_rgb(profile)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if not rgb and not (grey and profile[16:20] == b"GRAY"):
            kind = profile[16:20].decode("ascii", "replace").strip()
            return array, f"its ICC profile is of another colour space ({kind}); its colours are taken as sRGB"
        move = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB" if rgb else "L", "RGB")
        probe = np.arange(256, dtype=np.uint8)[None] if grey else GRID
        seen = np.repeat(probe[..., None], 3, 2) if grey and rgb else probe
        moved = _applied(move, seen)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as e:
        return array, f"its ICC profile is damaged ({' '.join(str(e).split())}); its colours are taken as sRGB"
    mixed = "its ICC profile is of RGB, the picture is grey" if grey and rgb else None
    plain = np.repeat(probe[..., None], 3, 2) if grey else probe
    change = np.abs(moved.astype(int) - plain)
    rounding = change.max() <= 1 or (not grey and change.max() <= 4 and change[:, -256:].max() <= 1)
    if rounding and (change.max() <= 1 or _has_srgb_primaries(source)):
        return array, mixed
    if grey:
        return np.rint(moved[0].mean(-1)).astype(np.uint8)[array], mixed
    return _applied(move, array), None


def _has_srgb_primaries(source: ImageCms.ImageCmsProfile) -> bool:
    """Whether they differ by rounding, of which the curve makes some levels in dark saturated colours."""
    found, known = _colorants(source), _colorants(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
    return None not in found and all(np.abs(np.subtract(a[0], b[0])).max() < 5e-4 for a, b in zip(found, known))


def _colorants(source: ImageCms.ImageCmsProfile) -> list:
    """Of red, green and blue, XYZ and xyY; None for those that a profile does not name."""
    return [getattr(source.profile, f"{colour}_colorant") for colour in ("red", "green", "blue")]


def _applied(move, array: np.ndarray) -> np.ndarray:
    return np.array(ImageCms.applyTransform(Image.fromarray(array), move))


def is_usable(profile: bytes) -> bool:
    """Whether it can be opened at all."""
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, TypeError, ImageCms.PyCMSError):
        return False
    return True


def _grid() -> np.ndarray:
    """Every colour of a grid of 17 levels, and all greys, (1, N, 3)."""
    levels = np.linspace(0, 255, 17).round()
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    return np.concatenate([cube, np.repeat(np.arange(256)[:, None], 3, 1)]).astype(np.uint8)[None]


GRID = _grid()
