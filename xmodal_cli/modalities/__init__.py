"""The kinds of image that a student can be taught to see, by name, and the one way to encode a frame as any of them.

A modality is one function on arrays in a file of its own and one entry in `MODALITIES`. The entries load their
encoders when they are called, so that names and facts are at hand without NumPy, OpenCV or SciPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xmodal_cli.errors import SettingsError, closest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xmodal_cli.modalities.geometry import Camera

__all__ = ["MODALITIES", "Frame", "Modality", "encode_frame", "modality"]


@dataclass(frozen=True)
class Frame:
    """What one image is encoded from.

    Args:
        pixels: in the unit of the source: depth (H, W) float64 metres, holes filled; thermal (H, W) uint16 as stored;
            colour (H, W, 3) uint8 RGB or (H, W) uint8; flow (H, W, 2) float32 pixels to the right and downward.
        camera: of this image; only HHA needs it.
        missing: (H, W) bool, what the depth sensor did not see or where flow is not known; None when all is.
        range: the values that become 0 and 255; only thermal needs it.
    """

    pixels: NDArray[Any]
    camera: Camera | None = None
    missing: NDArray[np.bool_] | None = None
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Modality:
    """A kind of image: what it is made from, how it is stored, how it is mirrored.

    Args:
        name: as typed on the command line and as its folder is called.
        source: the kind of file that it is made from.
        channels: of the stored image, 1 or 3.
        about: one sentence.
        encode: makes the stored image of a frame.
        needs_camera: whether focal lengths and the image centre must be known.
        needs_range: whether one range of values must be measured on the whole data set.
        dtype: of the stored image.
        unit: of the stored values, where they have one.
        range: the values that the stored image may hold.
        flip: how it is mirrored: "mirror" leaves values alone, "negate_x" also negates a horizontal component.
    """

    name: str
    source: Literal["depth", "thermal", "colour", "flow"]
    channels: int
    about: str
    encode: Callable[[Frame], NDArray[Any]]
    needs_camera: bool = False
    needs_range: bool = False
    dtype: Literal["uint8", "uint16"] = "uint8"
    unit: str | None = None
    range: tuple[int, int] = (0, 255)
    flip: Literal["mirror", "negate_x"] = "mirror"


def _encode_depth(frame: Frame) -> NDArray[np.uint16]:
    from xmodal_cli.modalities import depth

    return depth.encode(frame.pixels)


def _encode_disparity(frame: Frame) -> NDArray[np.uint8]:
    from xmodal_cli.modalities import disparity

    return disparity.encode(frame.pixels)


def _encode_hha(frame: Frame) -> NDArray[np.uint8]:
    from xmodal_cli.modalities import hha

    if frame.camera is None:
        raise SettingsError(
            "HHA measures heights and angles, so it needs the camera; none was given.",
            hint="Pass --camera fx,fy,cx,cy in pixels, or use --modality disparity, which needs none.",
        )
    return hha.encode(frame.pixels, frame.camera, frame.missing)


def _encode_thermal(frame: Frame) -> NDArray[np.uint8]:
    from xmodal_cli.modalities import thermal

    if frame.range is None:
        raise SettingsError("Thermal images need one range of values for the whole data set; none was measured.")
    return thermal.encode(frame.pixels, frame.range)


def _encode_gray(frame: Frame) -> NDArray[np.uint8]:
    from xmodal_cli.modalities import gray

    return gray.encode(frame.pixels)


def _encode_flow(frame: Frame) -> NDArray[np.uint8]:
    from xmodal_cli.modalities import flow

    return flow.encode(frame.pixels)


def _encode_flow_kitti(frame: Frame) -> NDArray[np.uint16]:
    from xmodal_cli.modalities import flow

    return flow.encode_kitti(frame.pixels, None if frame.missing is None else ~frame.missing)


MODALITIES: dict[str, Modality] = {
    entry.name: entry
    for entry in (
        Modality(
            name="hha",
            source="depth",
            needs_camera=True,
            channels=3,
            about="Disparity, height above the floor and angle with gravity: the paper's encoding of depth.",
            encode=_encode_hha,
        ),
        Modality(
            name="disparity",
            source="depth",
            channels=3,
            about="One over depth, three times: HHA's first channel, for a camera that is not known.",
            encode=_encode_disparity,
        ),
        Modality(
            name="depth",
            source="depth",
            channels=1,
            dtype="uint16",
            unit="mm",
            range=(0, 65535),
            about="Metric depth in millimetres, holes filled.",
            encode=_encode_depth,
        ),
        Modality(
            name="thermal",
            source="thermal",
            needs_range=True,
            channels=1,
            about="Radiometric thermal images in 8 bits, with one range for the whole data set.",
            encode=_encode_thermal,
        ),
        Modality(
            name="gray",
            source="colour",
            channels=1,
            about="Brightness of a colour or gray image.",
            encode=_encode_gray,
        ),
        Modality(
            name="flow",
            source="flow",
            channels=3,
            unit="1/16 px from 128",
            flip="negate_x",
            about="Optical flow to the next frame: x, y and length in 8 bits, the paper's encoding.",
            encode=_encode_flow,
        ),
        Modality(
            name="flow_kitti",
            source="flow",
            channels=3,
            dtype="uint16",
            unit="1/64 px from 32768",
            range=(0, 65535),
            flip="negate_x",
            about="Optical flow to the next frame: x, y and whether it is known, in KITTI's 16-bit form.",
            encode=_encode_flow_kitti,
        ),
    )
}


def modality(name: str) -> Modality:
    """The modality of that name.

    Raises:
        SettingsError: there is none; the hint gives the closest names.

    Example:
        >>> modality("hha").channels
        3
    """
    if name not in MODALITIES:
        known = ", ".join(MODALITIES)
        raise SettingsError(
            f"There is no modality '{name}'; there are {known}.", hint=closest(name, MODALITIES) or None
        )
    return MODALITIES[name]


def encode_frame(name: str, frame: Frame) -> NDArray[Any]:
    """Encode one frame as a modality; a plain function of plain values, so that a process pool can run it.

    Args:
        name: of the modality.
        frame: the pixels in the unit of the modality's source, and what else it needs.

    Returns:
        (H, W) or (H, W, 3) of the modality's dtype; three channels are RGB order.

    Raises:
        SettingsError: an unknown name, or a camera or range that is needed is not there.
        DataError: pixels that the modality cannot be made from.

    Example:
        >>> import numpy as np
        >>> encode_frame("disparity", Frame(np.full((2, 2), 2.0)))[0, 0].tolist()
        [155, 155, 155]
    """
    return modality(name).encode(frame)
