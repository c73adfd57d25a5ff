"""A made scene as the Kinect of NYU Depth v2 would record it: rays through both distorted lenses, files as published.

The scene is known exactly: slanted planes and a box in front, in the axes of the colour camera. Distortion is inverted
here by Newton's method on the published formula; nothing of the package's own geometry is used but its constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2_raw.camera import COLOUR, COLOUR_ORIGIN_M, DEPTH, DEPTH_TO_COLOUR, SIZE_HW, Lens

Floats = NDArray[np.float64]
CROP = (slice(45, 470), slice(40, 600))
WALL_RGB, BOX_RGB = (40, 90, 160), (220, 60, 30)


@dataclass(frozen=True)
class Scene:
    """A slanted plane n . p = d, and a box face at `box_z_m` that fills `box` (left, top, right, bottom, metres)."""

    normal: tuple[float, float, float] = (0.25, -0.2, 1.0)
    distance_m: float = 3.0
    box_z_m: float | None = None
    box: tuple[float, float, float, float] = (-0.3, -0.25, 0.35, 0.3)

    def hit(self, origin: Floats, rays: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Length along each ray (H, W, 3) to the first surface, and whether it is the box."""
        normal = np.array(self.normal)
        length = (self.distance_m - origin @ normal) / (rays @ normal)
        if self.box_z_m is None:
            return length, np.zeros(length.shape, np.bool_)
        near = (self.box_z_m - origin[2]) / rays[..., 2]
        x, y = (origin[axis] + near * rays[..., axis] for axis in (0, 1))
        left, top, right, bottom = self.box
        on_box = (x >= left) & (x <= right) & (y >= top) & (y <= bottom) & (near < length)
        return np.where(on_box, near, length), on_box


def pinhole_rays(lens: Lens) -> Floats:
    """(480, 640, 3) rays, z = 1, of an undistorted camera."""
    rows, columns = np.mgrid[1 : SIZE_HW[0] + 1, 1 : SIZE_HW[1] + 1]
    cam = lens.camera
    x, y = (columns - cam.cx) / cam.fx, (rows - cam.cy) / cam.fy
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def bent(x: Floats, y: Floats, lens: Lens) -> tuple[Floats, Floats]:
    """Where the lens puts a straight ray: Brown's model."""
    k1, k2, p1, p2, k3 = lens.distortion
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y


def lens_rays(lens: Lens) -> Floats:
    """(480, 640, 3) rays, z = 1, that the lens puts on each pixel; Newton's method with numeric derivatives."""
    aim = pinhole_rays(lens)
    x, y, step = aim[..., 0].copy(), aim[..., 1].copy(), 1e-6
    for _ in range(8):
        u, v = bent(x, y, lens)
        (ux, vx), (uy, vy) = bent(x + step, y, lens), bent(x, y + step, lens)
        a, b, c, d = (ux - u) / step, (uy - u) / step, (vx - v) / step, (vy - v) / step
        du, dv, det = aim[..., 0] - u, aim[..., 1] - v, a * d - b * c
        x, y = x + (d * du - b * dv) / det, y + (a * dv - c * du) / det
    assert np.abs(np.stack(bent(x, y, lens), -1) - aim[..., :2]).max() < 1e-9
    return np.stack([x, y, np.ones_like(x)], axis=-1)


_RAYS: dict[str, Floats] = {}


def _rays_of(name: str, lens: Lens) -> Floats:
    if name not in _RAYS:
        _RAYS[name] = lens_rays(lens)
    return _RAYS[name]


def raw_depth(scene: Scene) -> NDArray[np.uint16]:
    """(480, 640) raw numbers of the depth camera, the nearest whole ones."""
    rays = _rays_of("depth", DEPTH) @ DEPTH_TO_COLOUR.T
    length, _ = scene.hit(-COLOUR_ORIGIN_M, rays)  # along rays with z = 1, so it is depth
    return np.rint(1092.5 - 351.3 / length).astype(np.uint16)


def raw_colour(scene: Scene) -> NDArray[np.uint8]:
    """(480, 640, 3) what the colour camera sees: the box in one colour, the plane in another."""
    _, on_box = scene.hit(np.zeros(3), _rays_of("colour", COLOUR))
    return np.where(on_box[..., None], np.array(BOX_RGB), np.array(WALL_RGB)).astype(np.uint8)


def truth(scene: Scene) -> tuple[Floats, NDArray[np.bool_]]:
    """(425, 560) depth in metres along the axis of the colour camera, and where the box is."""
    length, on_box = scene.hit(np.zeros(3), pinhole_rays(COLOUR))
    return length[CROP], on_box[CROP]


def pgm(raw: NDArray[np.uint16]) -> bytes:
    """A depth file as the recorder wrote it: low byte first."""
    return b"P5 640 480 65535\n" + raw.astype("<u2").tobytes()


def ppm(rgb: NDArray[np.uint8]) -> bytes:
    """A colour file."""
    return b"P6 640 480 255\n" + rgb.tobytes()


def write_scene(folder: Path, count: int, scene: Scene | None = None, start_s: float = 1294886362.0) -> None:
    """A scene folder of `count` frames, 30 a second; colour comes 7 ms later. All show the same."""
    scene = scene or Scene(box_z_m=1.6)
    folder.mkdir(parents=True)
    depth, colour = pgm(raw_depth(scene)), ppm(raw_colour(scene))
    for index in range(count):
        time_s = start_s + index / 30
        (folder / f"d-{time_s:.6f}-{3143255701 + index}.pgm").write_bytes(depth)
        (folder / f"r-{time_s + 0.007:.6f}-{3118787619 + index}.ppm").write_bytes(colour)
        (folder / f"a-{time_s:.6f}-{3164794231 + index}.dump").write_bytes(bytes(16))
