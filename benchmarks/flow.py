"""How near estimated optical flow comes to the truth, and how fast: DIS, Farneback and RAFT on built-in rooms.

    OMP_NUM_THREADS=1 python benchmarks/flow.py [--weights raft-small.pth] [--rooms 6] [--size 320x240]

Rooms know where every point of a frame appears a fifteenth of a second later, so their flow is exact. Both frames are
rendered as the colour camera sees them, noise and JPEG included. End-point error is the mean distance in pixels between
estimated and true flow; pixels that leave the picture or are hidden in the next frame count too, as in KITTI's "all".
Beside it stands the error of no motion at all. RAFT is measured where `--weights` names a file, or with `--raft`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from xmodal_cli.data import images
from xmodal_cli.datasets.rooms import sensor
from xmodal_cli.datasets.rooms.camera import flow_between, kinect, rays
from xmodal_cli.datasets.rooms.frames import RoomFrame, RoomRecipe, render_room
from xmodal_cli.datasets.rooms.shading import shade
from xmodal_cli.datasets.rooms.trace import trace
from xmodal_cli.modalities.flow_estimators import ESTIMATORS
from xmodal_cli.models import raft
from xmodal_cli.runs.device import resolve_device

Image = NDArray[np.uint8]
Pair = tuple[Image, Image, NDArray[np.float32]]
Estimate = Callable[[list[tuple[Image, Image]]], list[NDArray[np.float32]]]
WRONG_PX = 3.0  # KITTI counts a pixel as wrong beyond 3 px and 5 % of its flow
WRONG_SHARE = 0.05


def pairs_of(recipe: RoomRecipe, number: int) -> Iterator[Pair]:
    """Both pictures of every frame of a room, and the exact flow between them."""
    camera = kinect(recipe.size_hw[1], recipe.size_hw[0])
    for frame in render_room(recipe, number):
        found = trace(frame.model, frame.following, camera, recipe.size_hw)
        shading = shade(frame.model, found, frame.following, camera)
        following = RoomFrame(frame.id, frame.following, frame.following, found, shading, frame.model, frame.random)
        flow_px = flow_between(frame.found.depth_m, frame.pose, frame.following, camera, rays(camera, recipe.size_hw))
        yield _picture(frame), _picture(following), np.asarray(flow_px, np.float32)


def _picture(frame: RoomFrame) -> Image:
    seen = sensor.colour(frame.shading, sensor.edges_of(frame.found), frame.random)
    return images.decode_rgb(images.encode_jpeg(seen), Path(frame.id))


def one_by_one(estimate: Callable[[Image, Image], NDArray[np.float32]]) -> Estimate:
    return lambda pairs: [estimate(image, following) for image, following in pairs]


def measure(name: str, estimate: Estimate, pairs: list[Pair]) -> None:
    """One line: frames a second, processor time of a frame, end-point error, share of wrong pixels."""
    shown = [(image, following) for image, following, _ in pairs]
    estimate(shown[:1])
    start, cpu = time.perf_counter(), time.process_time()
    found = [flow for begin in range(0, len(shown), raft.BATCH) for flow in estimate(shown[begin : begin + raft.BATCH])]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    truth = np.stack([flow for _, _, flow in pairs])
    errors = np.linalg.norm(np.stack(found) - truth, axis=-1)
    wrong = (errors > WRONG_PX) & (errors > WRONG_SHARE * np.linalg.norm(truth, axis=-1))
    speed = f"{len(pairs) / seconds:9.1f}{1000 * cpu / len(pairs):10.0f}"
    print(f"{name:12s}{speed}{errors.mean():10.2f}{np.median(errors):8.2f}{100 * wrong.mean():9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--rooms", type=int, default=6)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--raft", action="store_true", help="fetch torchvision's weights of the large network")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(side) for side in chosen.size.split("x"))
    recipe = RoomRecipe(Path("unused"), 0, chosen.frames, (height, width), ())
    pairs = [pair for number in range(chosen.rooms) for pair in pairs_of(recipe, number)]
    device = resolve_device(chosen.device)
    length = np.linalg.norm(np.stack([flow for _, _, flow in pairs]), axis=-1)
    print(f"{len(pairs)} pairs of {width} x {height}")
    print(f"true flow: mean {length.mean():.2f} px, largest {length.max():.1f} px")
    print(f"{'':12s}{'frames/s':>9s}{'CPU ms':>10s}{'EPE px':>10s}{'median':>8s}{'wrong %':>9s}")
    measure("nothing", lambda some: [np.zeros((height, width, 2), np.float32) for _ in some], pairs)
    for name, estimate in ESTIMATORS.items():
        measure(name, one_by_one(estimate), pairs)
    if chosen.weights is not None or chosen.raft:
        network = raft.load_raft(chosen.weights, device)
        measure(f"raft {device.type}", lambda some: raft.estimate(network, some), pairs)
        print(f"torch: {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
