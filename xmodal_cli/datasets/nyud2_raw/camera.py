"""The Kinect of NYU Depth v2: its two cameras, how they lie to each other, and how its numbers become metres.

All numbers are the calibration that the data set's authors publish with their toolbox (`camera_params.m`); pixels are
counted from 1, as there. The toolbox turns depth points by a matrix close to -1 and adds (t_x, t_z, t_y), its names
for x, y and z; negated as a whole that is `DEPTH_TO_COLOUR` and `COLOUR_ORIGIN_M` here: the colour camera stands
2.5 cm to the right of the depth camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2.camera import (
    COLUMNS,
    CROP_CAMERA,
    CROP_SIZE_HW,
    DEPTH_CAMERA,
    FULL_CAMERA,
    FULL_SIZE_HW,
    ROWS,
)
from xmodal_cli.modalities.geometry import Camera

SIZE_HW = FULL_SIZE_HW
CROP_TOP, CROP_LEFT = ROWS.start, COLUMNS.start
CROP_HW = CROP_SIZE_HW
"""The rest has no registered depth."""


@dataclass(frozen=True)
class Lens:
    """A camera with its distortion.

    Args:
        camera: focal lengths and centre, pixels counted from 1.
        distortion: k1, k2, p1, p2, k3 of the model of Brown, in the order of OpenCV and of Bouguet's toolbox.
    """

    camera: Camera
    distortion: tuple[float, float, float, float, float]

    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) camera matrix for pixels that are counted from 0, as OpenCV counts."""
        cam = self.camera
        return np.array([[cam.fx, 0.0, cam.cx - 1.0], [0.0, cam.fy, cam.cy - 1.0], [0.0, 0.0, 1.0]])


COLOUR = Lens(
    FULL_CAMERA,
    (0.20796615318809061, -0.58613825163911781, 0.00072231363135888329, 0.0010479627195765181, 0.49856986684705107),
)
DEPTH = Lens(
    DEPTH_CAMERA,
    (-0.099897236553084481, 0.39065324602765344, 0.0019290592870229277, -0.0019422022475975055, -0.51031725053400578),
)
CROPPED = CROP_CAMERA
"""The camera of every image that is made: the colour camera without distortion, of the crop."""

DEPTH_TO_COLOUR = np.array(
    [
        [0.99997798940829263, -0.0050359919480810989, -0.0043196624923060242],
        [0.0050518419386157446, 0.99998051861143999, 0.0036662365748484798],
        [0.0043011152014118693, -0.0036879781309514218, 0.99998394948385538],
    ]
)
"""(3, 3) rotation: axes of the depth camera to those of the colour camera (x right, y down, z forward)."""

COLOUR_ORIGIN_M = np.array([0.025031875059141302, -0.00029342312935846411, 0.00066238747008330102])
"""(3,) taken from a turned depth point, metres: a point in the colour camera is `DEPTH_TO_COLOUR @ p` less this."""

STEPS_A, STEPS_B = 351.3, 1092.5
"""Depth in metres is A / (B - raw) (`depth_rel2depth_abs.m`)."""

FARTHEST_M = 10.0
"""Depth beyond it is set to it (`maxDepth` of `camera_params.m`)."""

NOTHING = 2047
"""What the Kinect writes where it saw nothing: the largest of its 11 bits."""

NEAREST_RAW = 600
"""Below it, 0.713 m, the toolbox drops depth (`project_depth_map.m`): the Kinect measures little there that is true."""


def metres_of_raw() -> NDArray[np.float32]:
    """(65536,) depth in metres of every number that a raw file can hold; 0 where it means nothing.

    Example:
        >>> table = metres_of_raw()
        >>> [round(float(table[raw]), 4) for raw in (0, 599, 600, 1000, 1057, 1080, 1093, 2047)]
        [0.0, 0.0, 0.7133, 3.7978, 9.8958, 10.0, 0.0, 0.0]
    """
    raw = np.arange(1 << 16, dtype=np.float64)
    with np.errstate(divide="ignore"):
        metres = STEPS_A / (STEPS_B - raw)
    known = (raw >= NEAREST_RAW) & (raw < STEPS_B)
    return np.where(known, np.minimum(metres, FARTHEST_M), 0.0).astype(np.float32)
