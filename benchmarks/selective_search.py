"""Bottom-up proposals against OpenCV-contrib's selective search: recall and time on the same images, in one run.

Needs an environment with opencv-contrib-python-headless in opencv-python's place.

    OMP_NUM_THREADS=1 python benchmarks/selective_search.py data/nyud2 --every 4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.grouping import propose
from xmodal_cli.metrics.recall import measure_recall

MODALITIES = ("rgb", "hha", "depth")
COUNTS = (100, 500, 1000, 2000)

Images = dict[str, NDArray[Any]]


def selective_search(images: Images, mode: str) -> NDArray[np.float32]:
    """Its boxes as xyxy with exclusive ends, best first."""
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(images["rgb"][:, :, ::-1]))
    cv2.setRNGSeed(0)  # its order of boxes is drawn
    if mode == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    boxes = search.process().astype(np.float32)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def main() -> None:
    """Look at every image with both, in turn, and print recall and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="look at every so many images")
    parser.add_argument("--mode", choices=("fast", "quality"), default="fast")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = PreparedData.open(options.data)
    methods: dict[str, Callable[[Images], NDArray[np.float32]]] = {
        "bottom-up": propose,
        f"selective search, {options.mode}": lambda images: selective_search(images, options.mode),
    }
    found: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    annotations = data.annotations(options.split)
    for name in data.ids(options.split)[:: options.every]:
        images, objects = {kind: data.read(kind, name) for kind in MODALITIES}, annotations[name]
        for method, make in methods.items():
            began = time.process_time()
            boxes = make(images)
            seconds[method].append(time.process_time() - began)
            found[method].append((boxes, objects.boxes_xyxy[~objects.crowd]))
    print("| method | " + " | ".join(f"{count} boxes" for count in COUNTS) + " | CPU s per image (median) |")
    print("|---|" + "---|" * (len(COUNTS) + 1))
    for method, pairs in found.items():
        report = measure_recall(pairs)
        cells = [f"{report.at(n, 0.5):.3f} / {report.at(n, 0.7):.3f} / {report.average_recall(n):.3f}" for n in COUNTS]
        print(f"| {method} | " + " | ".join(cells) + f" | {np.median(seconds[method]):.2f} |")
    print(f"{len(next(iter(found.values())))} images of {options.split}; recall at IoU 0.5 / at 0.7 / average recall")


if __name__ == "__main__":
    main()
