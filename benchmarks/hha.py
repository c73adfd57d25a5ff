"""How fast HHA is: milliseconds per stage on one thread, and the ratio to a version by direct convolution.

    python benchmarks/hha.py [FOLDER]

FOLDER holds `depth.png` and `raw_depth.png` (16-bit, 0.1 mm, 640 x 480); without it a made-up room with holes is used.
`direct_hha` is written from the formulas alone, sums every window pixel by pixel, and shares no code with the
package: the tests compare with it, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.modalities import depth, disparity, gravity, hha, normals
from xmodal_cli.modalities.geometry import Camera

COLOUR_CAMERA = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
UNIT = 0.0001
REPEATS = 15


def direct_sum(image: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Sum square windows by adding one shifted image per window pixel, in reading order; 0 outside."""
    height, width = image.shape
    padded = np.pad(image, radius)
    total = np.zeros_like(image)
    for down in range(2 * radius + 1):
        for across in range(2 * radius + 1):
            total += padded[down : down + height, across : across + width]
    return total


def direct_normals(
    z: NDArray[np.float64], missing: NDArray[np.bool_], radius: int, camera: Camera
) -> NDArray[np.float64]:
    """Normals (3, H, W) by the original's formulas and order of operations; NaN where there is none."""
    u = np.arange(1.0, z.shape[1] + 1) - camera.cx
    v = (np.arange(1.0, z.shape[0] + 1) - camera.cy)[:, None]
    x, y = u * z / camera.fx, v * z / camera.fy
    p, q, d = x / z, y / z, 1 / z
    terms = (p * p, p * q, p, q * q, q, np.ones_like(z), x / (z * z), y / (z * z), d)
    pp, pq, p1, qq, q1, one, pd, qd, d1 = (direct_sum(np.where(missing, 0.0, term), radius) for term in terms)
    a, b, c = qq * one - q1 * q1, -(pq * one - p1 * q1), pq * q1 - p1 * qq
    e, f, g = pp * one - p1 * p1, -(pp * q1 - pq * p1), pp * qq - pq * pq
    n = np.stack([a * pd + b * qd + c * d1, b * pd + e * qd + f * d1, c * pd + f * qd + g * d1])
    with np.errstate(invalid="ignore"):
        n /= np.sqrt((n * n).sum(axis=0))
        n *= np.where(n[2] < 0, -1.0, 1.0)
        return np.asarray(n * np.where(n[0] * x + n[1] * y + n[2] * z < 0, -1.0, 1.0))


def direct_gravity(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gravity by ten plain iterations over all normals."""
    n = field.reshape(3, -1)
    n = n[:, ~np.isnan(n[0])]
    y = np.array([0.0, 1.0, 0.0])
    for degrees in [45] * 5 + [15] * 5:
        along = abs(y @ n)
        walls, floors = n[:, along < np.sin(np.deg2rad(degrees))], n[:, along > np.cos(np.deg2rad(degrees))]
        axis = np.linalg.eigh(walls @ walls.T - floors @ floors.T)[1][:, 0]
        y = axis * np.sign(y @ axis)
    return y


def direct_hha(
    depth_m: NDArray[np.float64], camera: Camera, missing: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64], int]:
    """HHA image, gravity and number of pixels without a normal, by direct convolution."""
    z = depth_m * 100
    missing = np.zeros(z.shape, dtype=bool) if missing is None else missing
    y = direct_gravity(direct_normals(z, missing, 10, camera))
    cosine = np.einsum("chw,c->hw", direct_normals(z, missing, 3, camera), y)
    none = np.isnan(cosine)
    angle = np.degrees(np.arccos(np.clip(np.where(none, -1.0, cosine), -1, 1)))
    u = (np.arange(1.0, z.shape[1] + 1) - camera.cx) / camera.fx
    v = ((np.arange(1.0, z.shape[0] + 1) - camera.cy) / camera.fy)[:, None]
    height = -z * (u * y[0] + v * y[1] + y[2])
    height -= -130 if height.min() > -90 else height.min()
    channels = np.stack([31000 / np.maximum(z, 100), height, angle + 128 - 90], axis=-1)
    return np.clip(np.floor(channels + 0.5), 0, 255).astype(np.uint8), y, int(none.sum())


def made_up_frame() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A floor, a wall 3 m away and a box before it, 640 x 480, with holes in a tenth of the image."""
    v = (np.arange(1.0, 481) - COLOUR_CAMERA.cy)[:, None] / COLOUR_CAMERA.fy
    room = np.minimum(1.3 / np.maximum(v, 1e-3), 3.0) * np.ones((1, 640))
    room[200:420, 250:380] = np.minimum(room[200:420, 250:380], 2.0)
    noise = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((480, 640)), (0, 0), 6)
    return room, noise > np.quantile(noise, 0.9)


def load(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Depth in metres and the mask of missing pixels from `depth.png` and `raw_depth.png`."""
    filled, raw = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for name in ("depth.png", "raw_depth.png"))
    return depth.to_metres(np.asarray(filled), UNIT), np.asarray(raw) == 0


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median CPU time of one call, after one to warm up."""
    call()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return 1000 * float(np.median(spent))


def main(arguments: list[str]) -> None:
    cv2.setNumThreads(1)
    depth_m, missing = load(Path(arguments[0])) if arguments else made_up_frame()
    camera, z = COLOUR_CAMERA, depth_m * 100
    fine, coarse = normals.estimate(z, camera, missing, radii=(hha.ANGLE_RADIUS, hha.GRAVITY_RADIUS))
    down = gravity.estimate(coarse.vectors)
    stages = {
        "normals 7x7 and 21x21": lambda: normals.estimate(z, camera, missing, (hha.ANGLE_RADIUS, hha.GRAVITY_RADIUS)),
        "gravity": lambda: gravity.estimate(coarse.vectors),
        "heights": lambda: hha.heights(z, camera, down),
        "angles": lambda: hha.angles(fine, down),
        "disparity": lambda: disparity.channel(z),
        "HHA, with missing pixels": lambda: hha.encode(depth_m, camera, missing),
        "HHA, none missing": lambda: hha.encode(depth_m, camera),
        "(fill holes)": lambda: depth.fill_holes(depth_m, missing),
        "(smooth 4 cm steps)": lambda: depth.smooth_quantised(depth_m, 1 / 25.5),
    }
    spent = {name: milliseconds(call) for name, call in stages.items()}
    for name, value in spent.items():
        print(f"{name:28s} {value:8.1f} ms")
    direct = milliseconds(lambda: direct_hha(depth_m, camera, missing), repeats=3)
    print(
        f"{'direct convolution':28s} {direct:8.1f} ms, {direct / spent['HHA, with missing pixels']:.0f} times as long"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
