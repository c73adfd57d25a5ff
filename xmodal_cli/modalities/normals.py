"""Surface normals of a depth image: a plane fitted to the disparities of a square window around each pixel.

Restates `computeNormalsSquareSupport.m` of the authors (s-gupta/rgbdutils). A plane n.(X, Y, Z) = 1 is linear in the
image: n_x x + n_y y + n_z = 1/Z with x = (u - cx)/fx, y = (v - cy)/fy. So a window's plane is the least-squares fit of
1/Z over pixel positions, and all it needs are nine sums over the valid pixels: six moments of their positions and
three of 1/Z. Positions are integers counted from near the window, hence their moments are exact in float64 (below
2**53), and so is the test whether a window spans a plane at all. Windows end at the image's edge.

The work goes strip by strip through one small workspace, because memory that stays in the cache is what makes it fast.

Shapes: images are (H, W) float64; normals are (3, H, W), planes of x (right), y (down) and z (forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.modalities.geometry import Camera

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]

STRIP_ROWS = 48
"""Rows per strip: measured best at 640 columns (smaller repeats more overlap, larger leaves the cache)."""

SUMS = 9
"""Images summed over windows: 1, u, v, uu, uv, vv, d, ud, vd at valid pixels, with d = 1/Z."""

LINE_WINDOWS_AT_ONCE = 4096
"""Windows gathered at once by `_mend_lines`: 21 x 21 flags and at most 21 points each, so a few megabytes."""


@dataclass(frozen=True)
class Normals:
    """A field of normals.

    Args:
        vectors: (3, H, W) float64 of length 1, pointing away from the camera; zero vectors where there is none.
        none: (H, W) bool: no valid pixel in the window, or 0/0 in the original's arithmetic.
    """

    vectors: Floats
    none: Bools


def estimate(depth_cm: Floats, camera: Camera, missing: Bools | None, radii: tuple[int, ...]) -> list[Normals]:
    """Estimate normals with windows of one or several sizes.

    Args:
        depth_cm: (H, W) float64, centimetres, > 0, holes filled.
        camera: the camera of this image.
        missing: (H, W) bool, pixels that take no part in any fit; None when all do.
        radii: of the windows, pixels; a window is 2 radius + 1 wide.

    Returns:
        A field of normals per radius.

    Example:
        >>> wall, = estimate(np.full((9, 9), 200.0), Camera(500.0, 500.0, 5.0, 5.0), None, radii=(3,))
        >>> abs(wall.vectors[:, 4, 4]).round(9).tolist()
        [0.0, 0.0, 1.0]
    """
    height, width = depth_cm.shape
    fields = [Normals(np.empty((3, height, width)), np.empty((height, width), dtype=bool)) for _ in radii]
    halo = max(radii)
    workspace = np.empty((2 * SUMS + 3, min(height, STRIP_ROWS + 2 * halo), width))
    across, down = axis_offsets(camera, height, width)
    for top in range(0, height, STRIP_ROWS):
        first, last = max(0, top - halo), min(height, top + STRIP_ROWS + halo)
        inner = slice(top - first, min(top + STRIP_ROWS, height) - first)
        strip = workspace[:, : last - first]
        _moments(depth_cm[first:last], None if missing is None else missing[first:last], out=strip[:SUMS])
        for field, radius in zip(fields, radii, strict=True):
            reach = slice(max(0, inner.start - radius), inner.stop + radius)
            _sum_windows(strip[:SUMS, reach], radius, out=strip[SUMS : 2 * SUMS, reach])
            rows = slice(top, top + STRIP_ROWS)
            planes = _fit_planes(strip[SUMS : 2 * SUMS, inner], strip[2 * SUMS :, inner], inner.start)
            _write_normals(planes, camera, across, down[rows], field.vectors[:, rows], field.none[rows])
    for field, radius in zip(fields, radii, strict=True):
        _mend_lines(field, depth_cm, missing, camera, radius)
    return fields


def axis_offsets(camera: Camera, height: int, width: int) -> tuple[Floats, Floats]:
    """Distance of every pixel from the optical axis, in pixels: a (1, W) row across and a (H, 1) column down."""
    return np.arange(1.0, width + 1)[None, :] - camera.cx, np.arange(1.0, height + 1)[:, None] - camera.cy


def _positions(height: int, width: int, first_row: int = 0) -> tuple[Floats, Floats]:
    """Integer pixel positions in a strip, u from the middle and v from the top: a (1, W) row and a (H, 1) column."""
    return np.arange(float(width))[None, :] - width // 2, np.arange(float(height))[:, None] + first_row


def _moments(depth_cm: Floats, missing: Bools | None, out: Floats) -> None:
    """Write what is to be summed, 0 at missing pixels: 1, u, v, uu, uv, vv, d, ud, vd as (9, h, W)."""
    one, u, v, uu, uv, vv, d, ud, vd = out
    across, down = _positions(depth_cm.shape[0], depth_cm.shape[1])
    if missing is None:
        one[:] = 1.0
    else:
        np.subtract(1.0, missing, out=one)
    np.divide(one, depth_cm, out=d)
    for source, by_u, by_v in ((one, u, v), (u, uu, uv), (d, ud, vd)):
        np.multiply(source, across, out=by_u)
        np.multiply(source, down, out=by_v)
    np.multiply(v, down, out=vv)


def _sum_windows(images: Floats, radius: int, out: Floats) -> None:
    """Sum each image over square windows; what lies outside the image counts as 0."""
    size = (2 * radius + 1, 2 * radius + 1)
    for image, summed in zip(images, out, strict=True):
        cv2.boxFilter(image, cv2.CV_64F, size, dst=summed, normalize=False, borderType=cv2.BORDER_CONSTANT)


def _fit_planes(sums: Floats, spare: Floats, first_row: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Solve every window's least squares, in place: `sums` (9, h, W) and `spare` (3, h, W) are used up.

    Returns:
        along_u, along_v, centre, scale, each (h, W): the disparity plane through the window of pixel (u0, v0) is
        (along_u (u - u0) + along_v (v - v0) + centre) / scale. Only ratios matter for a normal, so nothing is
        divided; `scale`, made of exact integers, is 0 where the window's pixels do not span a plane.
    """
    n, u, v, uu, uv, vv, d, ud, vd = sums
    work, along_u, scale = spare
    across, down = _positions(n.shape[0], n.shape[1], first_row)
    for product, left, right in ((uu, u, u), (uv, u, v), (vv, v, v), (ud, u, d), (vd, v, d)):
        product *= n  # becomes n^2 times a covariance
        product -= np.multiply(left, right, out=work)
    np.multiply(uu, vv, out=scale)
    scale -= np.multiply(uv, uv, out=work)
    np.multiply(vv, ud, out=along_u)
    along_u -= np.multiply(uv, vd, out=work)
    along_v = np.multiply(uu, vd, out=vd)
    along_v -= np.multiply(uv, ud, out=work)
    centre = np.multiply(d, scale, out=d)
    for slope, mean, position in ((along_u, u, across), (along_v, v, down)):
        mean -= np.multiply(n, position, out=work)
        mean *= slope
        centre -= mean
    centre /= np.maximum(n, 1.0, out=work)
    return along_u, along_v, centre, scale


def _write_normals(
    planes: tuple[Floats, Floats, Floats, Floats],
    camera: Camera,
    across: Floats,
    down: Floats,
    vectors: Floats,
    none: Bools,
) -> None:
    """Turn disparity planes into unit normals away from the camera; zero vectors where `scale` is 0."""
    along_u, along_v, centre, scale = planes
    x, y, z = vectors
    np.multiply(along_u, camera.fx, out=x)
    np.multiply(along_v, camera.fy, out=y)
    # The plane's disparity at the pixel itself has the sign of n.(X, Y, Z).
    towards = np.sign(centre)
    along_u *= across
    along_v *= down
    np.subtract(centre, along_u, out=z)
    z -= along_v
    length = np.multiply(x, x, out=along_u)
    length += np.multiply(y, y, out=along_v)
    length += np.multiply(z, z, out=centre)
    np.equal(scale, 0.0, out=none)
    np.copyto(length, np.inf, where=none)
    np.sqrt(length, out=length)
    vectors *= np.divide(towards, length, out=length)


def _mend_lines(field: Normals, depth_cm: Floats, missing: Bools | None, camera: Camera, radius: int) -> None:
    """Give windows whose valid pixels lie on one line the normal that the original gives them.

    Such a window has no plane: the original divides rounding noise by rounding noise there, and gets a direction of
    no meaning, or 0/0 where the noise happens to cancel. Its images, and the directions of gravity estimated from
    them, contain that noise, so it is repeated operation by operation rather than improved.
    """
    if not field.none.any():
        return
    size = 2 * radius + 1
    valid = np.ones(depth_cm.shape, dtype=bool) if missing is None else ~missing
    inhabited = cv2.dilate(valid.view(np.uint8), np.ones((size, size), dtype=np.uint8)).view(bool)
    lines = np.stack(np.divmod(np.flatnonzero(field.none & inhabited), depth_cm.shape[1]))  # (2, K): row, column
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(valid, radius), (size, size))
    for start in range(0, lines.shape[1], LINE_WINDOWS_AT_ONCE):
        rows, columns = lines[:, start : start + LINE_WINDOWS_AT_ONCE]
        owner, cell = np.divmod(np.flatnonzero(windows[rows, columns]), size * size)
        members = (rows[owner] + cell // size - radius, columns[owner] + cell % size - radius)
        vectors = _original_normals(*_points(depth_cm, camera, *members), owner, len(rows))
        away = np.einsum("ck,ck->k", vectors, np.stack(_points(depth_cm, camera, rows, columns)))
        vectors[:, away < 0] *= -1.0
        defined = ~np.isnan(vectors).any(axis=0)
        field.vectors[:, rows[defined], columns[defined]] = vectors[:, defined]
        field.none[rows[defined], columns[defined]] = False


def _points(depth_cm: Floats, camera: Camera, rows: Indices, columns: Indices) -> tuple[Floats, Floats, Floats]:
    """X, Y, Z of some pixels, by the operations of `getPointCloudFromZ.m` in their order."""
    z = depth_cm[rows, columns]
    return (columns + 1 - camera.cx) * z / camera.fx, (rows + 1 - camera.cy) * z / camera.fy, z


def _original_normals(x: Floats, y: Floats, z: Floats, owner: Indices, count: int) -> Floats:
    """The plane fit of `computeNormalsSquareSupport.m` by its operations in their order, up to the last flip.

    Args:
        x: (P,) points of all windows, window by window in reading order; `y` and `z` likewise.
        owner: (P,) the window, from 0 to count - 1, that a point belongs to.
        count: how many windows there are.

    Returns:
        (3, count) unit vectors, NaN where the original finds 0/0.
    """
    x_z, y_z = x / z, y / z
    terms = (x_z * x_z, x_z * y_z, x_z, y_z * y_z, y_z, np.ones_like(z), x / (z * z), y / (z * z), 1 / z)
    xx, xy, x1, yy, y1, one, xd, yd, d = (np.bincount(owner, term, minlength=count) for term in terms)
    inverse_xx, inverse_xy, inverse_x1 = yy * one - y1 * y1, -(xy * one - x1 * y1), xy * y1 - x1 * yy
    inverse_yy, inverse_y1, inverse_11 = xx * one - x1 * x1, -(xx * y1 - xy * x1), xx * yy - xy * xy
    vectors = np.stack(
        [
            inverse_xx * xd + inverse_xy * yd + inverse_x1 * d,
            inverse_xy * xd + inverse_yy * yd + inverse_y1 * d,
            inverse_x1 * xd + inverse_y1 * yd + inverse_11 * d,
        ]
    )
    with np.errstate(invalid="ignore"):
        vectors /= np.sqrt(vectors[0] ** 2 + vectors[1] ** 2 + vectors[2] ** 2)
    return np.where(vectors[2] < 0, -vectors, vectors)
