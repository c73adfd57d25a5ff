"""Three cameras that look at one room: colour, Kinect-like depth, thermal; each with the faults of its kind.

The depth sensor works like the Kinect's: an infrared pattern from a projector 7.5 cm beside the camera, matched in
steps of an eighth of a pixel. So depth comes in steps that grow with its square, and there is none in the projector's
shadow, on surfaces that throw too little light back (dark, slanted, far), in glass, and outside the sensor's range. See
Khoshelham and Elberink, "Accuracy and resolution of Kinect depth data", Sensors 2012.

Shapes: `H x W` pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.transforms import generator
from xmodal_cli.datasets.rooms.shading import Shading
from xmodal_cli.datasets.rooms.trace import Trace
from xmodal_cli.modalities.geometry import Camera

Floats: TypeAlias = NDArray[np.float32]

BASELINE_M = 0.075  # Kinect: from projector to infrared camera
SENSOR_FOCAL_PX = 580.0  # Kinect: its infrared camera, at 640 columns
SUBPIXEL = 8  # Kinect: disparity steps a pixel
NOISE_STEPS = 1.0  # standard deviation of disparity in such steps; Khoshelham and Elberink find half, on good surfaces
NEAREST_M, FARTHEST_M = 0.5, 8.0  # where the Kinect measures
WEAKEST = 0.012  # least light returned, infrared * cosine / distance^2 at a metre, that is matched
SPECKLE = 0.35  # how much the light returned varies from patch to patch
PATCH_PX = 4  # size of a patch
NOISE_POOL = 1 << 20  # numbers
MM_PER_M = 1000.0
MOST_MM = 65535

BRIGHT_SHARE = 90  # percentile of light that exposure looks at
EXPOSED = (0.35, 0.7)  # where exposure puts it, 1 being the brightest level
GRAIN = 0.014  # noise of a small sensor indoors, of full scale
GAMMA = 2.2
GAMMA_STEPS = 4096

THERMAL_RANGE_C = (10.0, 40.0)  # becomes 0 to 255: from cold glass to a lit lamp
KELVIN_AT_0_C, STEPS_PER_KELVIN = 273.15, 100.0  # radiometric cameras store hundredths of a kelvin
THERMAL_NOISE_C = 0.06  # of an uncooled sensor
THERMAL_BLUR = 0.006  # blur, as a share of the width: thermal cameras are coarse
COOLER_BELOW_C = 0.8  # the air at the floor is cooler than at 2 m


def colour(shading: Shading, edges: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.uint8]:
    """The colour camera's picture: exposed, with soft edges and noise.

    Args:
        shading: light of every pixel.
        edges: `(H, W)` bool, pixels beside another solid: they see both.
        random: of this frame.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    light = _softened(shading.rgb, edges)
    bright = float(np.percentile(light[:, ::4, ::4].mean(axis=0), BRIGHT_SHARE))
    light *= np.float32((GAMMA_STEPS - 1) * random.uniform(*EXPOSED) / max(bright, 1e-3))
    np.minimum(light, GAMMA_STEPS - 1, out=light)
    shown = np.take(_gamma_table(), light.astype(np.int16))
    shown += _noise(shown.shape, random) * np.float32(255 * GRAIN)
    np.clip(shown, 0, 255, out=shown)
    return np.asarray(cv2.merge(list(shown.astype(np.uint8))), np.uint8)


@lru_cache(maxsize=1)
def _gamma_table() -> Floats:
    """Shown levels, 0.5 to 255.5, of so many equal steps of light: rounded when the fraction is dropped."""
    return np.asarray(255 * (np.arange(GAMMA_STEPS) / (GAMMA_STEPS - 1)) ** (1 / GAMMA) + 0.5, np.float32)


def _softened(rgb: Floats, edges: NDArray[np.bool_]) -> Floats:
    """Light `(3, H, W)` with each pixel at an edge the mean of itself and its neighbours to the left and above."""
    width = edges.shape[1]
    flat = rgb.reshape(3, -1)
    where = np.flatnonzero(edges)
    where = where[where > width]
    mean = sum(flat[:, where - back] for back in (0, 1, width, width + 1))
    soft = flat.copy()
    soft[:, where] = np.asarray(mean, np.float32) * np.float32(0.25)
    return soft.reshape(rgb.shape)


def edges_of(found: Trace) -> NDArray[np.bool_]:
    """Pixels whose left or upper neighbour sees another solid."""
    edges = np.zeros(found.solid.shape, np.bool_)
    edges[:, 1:] = found.solid[:, 1:] != found.solid[:, :-1]
    edges[1:] |= found.solid[1:] != found.solid[:-1]
    return edges


def exact_depth(depth_m: Floats) -> NDArray[np.uint16]:
    """Depth in whole millimetres.

    Example:
        >>> exact_depth(np.array([[1.2346]], np.float32)).tolist()
        [[1235]]
    """
    return np.asarray(np.rint(np.minimum(depth_m * np.float32(MM_PER_M), MOST_MM)), np.uint16)


def raw_depth(depth_m: Floats, shading: Shading, camera: Camera, random: np.random.Generator) -> NDArray[np.uint16]:
    """What a Kinect would measure: `(H, W)` uint16 millimetres in its steps, 0 where it sees nothing.

    Args:
        depth_m: `(H, W)` exact.
        shading: how the surfaces face the sensor and how much infrared they throw back.
        camera: of the image.
        random: of this frame.
    """
    noise = _noise(depth_m.shape, random)
    steps_per = np.float32(SENSOR_FOCAL_PX * BASELINE_M * SUBPIXEL)
    steps = steps_per / depth_m + noise * np.float32(NOISE_STEPS)
    measured = np.asarray(steps_per / np.maximum(np.rint(steps), 1), np.float32)
    returned = shading.infrared * shading.facing / (depth_m * depth_m + np.float32(0.3))
    returned *= 1 + np.float32(SPECKLE) * _patches(depth_m.shape, random)
    unseen = (returned < WEAKEST) | (depth_m < NEAREST_M) | (depth_m > FARTHEST_M) | in_shadow(depth_m, camera.fx)
    return np.where(unseen, 0, exact_depth(measured)).astype(np.uint16)


@lru_cache(maxsize=1)
def _noise_pool() -> Floats:
    return generator(NOISE_POOL, "noise").standard_normal(NOISE_POOL, np.float32)


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Normal noise of deviation 1: a stretch, drawn for this frame, of numbers drawn once, which is much faster."""
    count, pool = math.prod(shape), _noise_pool()
    if count >= len(pool):
        pool = np.resize(pool, 2 * count)
    start = int(random.integers(len(pool) - count))
    return pool[start : start + count].reshape(shape)


def _patches(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Noise that is alike in patches of a few pixels, about -1 to 1: windows are matched, not pixels."""
    height, width = shape
    coarse = random.standard_normal((height // PATCH_PX + 2, width // PATCH_PX + 2), np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def in_shadow(depth_m: Floats, focal_px: float) -> NDArray[np.bool_]:
    """Where the projector's light does not reach: beside near things, on their left.

    The projector sees a point at column u at u minus the point's disparity; what lies further right and is nearer may
    come to lie left of it, and hides it.

    Args:
        depth_m: `(H, W)` float32.
        focal_px: of the image.

    Example:
        >>> row = np.array([[4, 4, 4, 4, 1, 1, 1, 1]], np.float32)
        >>> in_shadow(row, 40.0).astype(int).tolist()
        [[0, 0, 1, 1, 0, 0, 0, 0]]
    """
    column = np.arange(depth_m.shape[1], dtype=np.float32) - np.float32(focal_px * BASELINE_M) / depth_m
    least = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    shadow = np.zeros(depth_m.shape, np.bool_)
    shadow[:, :-1] = column[:, :-1] > least[:, 1:]
    return shadow


def thermal(shading: Shading, height_m: Floats, random: np.random.Generator) -> NDArray[np.uint16]:
    """What a radiometric thermal camera would store: hundredths of a kelvin, `(H, W)` uint16.

    Args:
        shading: temperatures.
        height_m: `(H, W)` above the floor.
        random: of this frame.
    """
    warmth: Floats = shading.temperature_c - np.float32(COOLER_BELOW_C) * (1 - np.float32(0.5) * height_m)
    warmth = np.asarray(cv2.GaussianBlur(warmth, (0, 0), max(THERMAL_BLUR * warmth.shape[1], 0.5)), np.float32)
    warmth += _noise(warmth.shape, random) * np.float32(THERMAL_NOISE_C)
    return np.asarray(np.rint((warmth + np.float32(KELVIN_AT_0_C)) * np.float32(STEPS_PER_KELVIN)), np.uint16)


def thermal_range() -> tuple[float, float]:
    """The stored values that become 0 and 255.

    Example:
        >>> thermal_range()
        (28315.0, 31315.0)
    """
    low, high = (round((end + KELVIN_AT_0_C) * STEPS_PER_KELVIN) for end in THERMAL_RANGE_C)
    return float(low), float(high)
