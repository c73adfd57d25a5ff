"""The pinhole camera that the geometric encodings need: focal lengths and image centre, in pixels.

All formulas of the paper's code count pixels from 1: the centre of the top left pixel is (1, 1), and published
centres (NYU Depth, MATLAB calibration toolboxes) mean that. OpenCV and ROS count from 0; `Camera.parse` converts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from xmodal_cli.errors import SettingsError

FIELDS = ("fx", "fy", "cx", "cy")
USAGE = "Give four numbers in pixels: --camera fx,fy,cx,cy"


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; pixel centres are counted from 1.

    Args:
        fx: focal length along a row, pixels, > 0.
        fy: focal length along a column, pixels, > 0.
        cx: column of the optical axis, pixels, 1-based.
        cy: row of the optical axis, pixels, 1-based.

    Raises:
        SettingsError: a number is not finite, or a focal length is not positive.

    Example:
        >>> Camera(518.858, 519.470, 325.582, 253.736).cropped(left=40, top=45)
        Camera(fx=518.858, fy=519.47, cx=285.582, cy=208.736)
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        numbers = ", ".join(f"{name}={getattr(self, name)}" for name in FIELDS)
        if not all(math.isfinite(getattr(self, name)) for name in FIELDS):
            raise SettingsError(f"A camera needs finite numbers; found {numbers}.", hint=USAGE)
        if self.fx <= 0 or self.fy <= 0:
            raise SettingsError(f"A camera needs focal lengths above 0 pixels; found {numbers}.", hint=USAGE)

    @classmethod
    def parse(cls, text: str, origin: int = 1) -> Camera:
        """Read a camera from `fx,fy,cx,cy` as it stands on the command line.

        Args:
            text: four numbers in pixels, separated by commas.
            origin: what the top left pixel is called: 1 as published with MATLAB code, 0 by OpenCV and ROS.

        Raises:
            SettingsError: not four numbers, or numbers that are no camera.

        Example:
            >>> Camera.parse("518.858,519.470,285.582,208.736").cx
            285.582
            >>> Camera.parse("500,500,319.5,239.5", origin=0).cx
            320.5
        """
        if origin not in (0, 1):
            raise SettingsError(f"Pixels are counted from 0 or 1; found {origin}.", hint="Use --pixel-origin 0 or 1.")
        try:
            fx, fy, cx, cy = (float(part) for part in text.split(","))
        except ValueError:
            raise SettingsError(f"A camera is four numbers fx,fy,cx,cy; found '{text}'.", hint=USAGE) from None
        return cls(fx, fy, cx + 1 - origin, cy + 1 - origin)

    def cropped(self, left: int, top: int) -> Camera:
        """The camera of the image that remains when columns at the left and rows at the top are cut off."""
        return Camera(self.fx, self.fy, self.cx - left, self.cy - top)

    def scaled(self, across: float, down: float | None = None) -> Camera:
        """The camera of a resized image.

        Pixel areas are scaled, not pixel centres: the outer edge of the first pixel, at 0.5, stays where it is.

        Args:
            across: new width divided by old width.
            down: new height divided by old height; `across` by default.

        Example:
            >>> Camera(500.0, 500.0, 320.5, 240.5).scaled(0.5)
            Camera(fx=250.0, fy=250.0, cx=160.5, cy=120.5)
        """
        down = across if down is None else down
        return Camera(self.fx * across, self.fy * down, (self.cx - 0.5) * across + 0.5, (self.cy - 0.5) * down + 0.5)

    def to_dict(self) -> dict[str, float]:
        """The four numbers by name, as they stand in dataset.json.

        Example:
            >>> Camera.from_dict(Camera(500.0, 500.0, 320.5, 240.5).to_dict()).cy
            240.5
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: dict[str, Any]) -> Camera:
        """The camera that `to_dict` wrote.

        Raises:
            SettingsError: a number is missing or is no number.
        """
        try:
            return cls(*(float(numbers[name]) for name in FIELDS))
        except (KeyError, TypeError, ValueError):
            raise SettingsError(f"A camera needs the numbers fx, fy, cx and cy; found {numbers!r}.", USAGE) from None
