"""How long one frame of raw NYU Depth v2 video takes on one core, stage by stage.

    python benchmarks/nyud2_raw.py [COLOUR.ppm DEPTH.pgm]

Without files a made frame is used: three slanted walls, a box in front, noise in colour, speckled holes in depth.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.datasets.nyud2_raw import colourise
from xmodal_cli.datasets.nyud2_raw.camera import CROPPED, STEPS_A, STEPS_B
from xmodal_cli.datasets.nyud2_raw.frames import Job, prepare_frame
from xmodal_cli.datasets.nyud2_raw.netpbm import decode_pgm, decode_ppm
from xmodal_cli.datasets.nyud2_raw.registration import register, undistort_colour
from xmodal_cli.datasets.nyud2_raw.settings import RawRecipe
from xmodal_cli.datasets.nyud2_raw.sources import RawFile
from xmodal_cli.datasets.nyud2_raw.synchronise import RawPair
from xmodal_cli.modalities import Frame, depth, encode_frame

REPEATS = 9
TARGET_MS = 250


def made_frame() -> tuple[bytes, bytes]:
    """The bytes of a colour and a depth file."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:480, 0:640]
    depth_m = np.minimum(3.5 + 0.002 * columns, 900.0 / np.maximum(rows - 150.0, 1.0))
    depth_m = np.minimum(depth_m, 5.5 - 0.004 * columns)
    box = (abs(columns - 300) < 90) & (abs(rows - 280) < 70)
    depth_m[box] = 1.4
    raw = np.rint(STEPS_B - STEPS_A / np.maximum(depth_m, 0.75)).astype(np.uint16)
    holes = cv2.GaussianBlur(random.normal(size=(480, 640)), (0, 0), 7)
    raw[(holes > np.quantile(holes, 0.85)) | (np.roll(box, -12, axis=1) & ~box)] = 2047
    shade = (60 + 25 * depth_m)[..., None] + random.normal(0, 4, (480, 640, 3)) + 60 * box[..., None]
    rgb = np.clip(shade, 0, 255).astype(np.uint8)
    return b"P6 640 480 255\n" + rgb.tobytes(), b"P5 640 480 65535\n" + raw.astype("<u2").tobytes()


def measured(name: str, work: Callable[[], Any], repeats: int = REPEATS) -> Any:
    """Run some work a few times, print the median, return what it gives."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    print(f"{name:34} {1000 * float(np.median(times)):8.1f} ms")
    return result


def stages(colour: bytes, raw: bytes, folder: Path) -> None:
    """Every stage by itself."""
    rgb_raw = measured("read PPM", lambda: decode_ppm(colour, "r"))
    raw_depth = measured("read PGM", lambda: decode_pgm(raw, "d"))
    rgb = measured("undistort colour, crop", lambda: undistort_colour(rgb_raw))
    depth_m = measured("register depth", lambda: register(raw_depth)).astype(np.float64)
    missing = depth_m == 0
    filled = measured("fill holes: nearest", lambda: depth.fill_holes(depth_m, missing))
    hha = measured("encode HHA", lambda: encode_frame("hha", Frame(filled, CROPPED, missing)))
    content = measured("write PNG of colour", lambda: images.encode_png(rgb, fast=True))
    measured("write PNG of HHA", lambda: images.encode_png(hha, fast=True))
    measured("write one file", lambda: files.write_bytes(folder / "a.png", content, sync=False))
    measured("(fill holes: colourise)", lambda: colourise.fill_holes(depth_m, missing, rgb), 3)
    print(f"holes {100 * missing.mean():.1f} %")


def whole(folder: Path) -> None:
    """The whole chain, from files to files."""
    pair = RawPair(0, RawFile(0.0, "d.pgm", str(folder)), RawFile(0.0, "r.ppm", str(folder)), 0.0)
    numbers = iter(range(1000))
    recipe = RawRecipe(folder / "out", ("hha",))
    measured(
        f"whole frame (at most {TARGET_MS})", lambda: prepare_frame(recipe, Job(f"scene_{next(numbers)}", (pair,)))
    )


def main() -> None:
    """Measure the frame that was named, or a made one."""
    cv2.setNumThreads(1)
    colour, raw = (Path(name).read_bytes() for name in sys.argv[1:3]) if len(sys.argv) > 2 else made_frame()
    register(decode_pgm(raw, "d"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "r.ppm").write_bytes(colour)
        (folder / "d.pgm").write_bytes(raw)
        stages(colour, raw, folder)
        whole(folder)


if __name__ == "__main__":
    main()
