"""A folder in which the command lines of the documents find what they name: a rig, data sets, proposals and runs.

Everything is small and made of built-in rooms. What stands in the documents for something of the reader's own is
replaced by what lies here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from caffe_files import CAFFENET, random_layers, write_caffemodel
from documents import words_of
from made_videos import make_jhmdb, make_ucf101
from nyud2_files import made_up, write_archive, write_labelled
from torchvision.models.optical_flow import raft_small

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.nyud2.camera import CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.splits import FIRST_NUMBER, split_numbers
from xmodal_cli.models.backbones import build

STANDS_FOR = {
    "RGB_RUN": "runs/finetune/RGB_RUN",
    "HHA_RUN": "runs/finetune/HHA_RUN",
    "STUDENT_RUN": "runs/distill/FROM_RGB",
    "RUN": "runs/distill/NAME",
    "DATA": "data/rig",
    "FILE": "runs/evaluate/DISPARITY_EVALUATION/detections.json",
    "TABLE": "table1",
    "LAYER": "features.3",
    "pool5": "features.3",
    "NAME": "squeezenet1_1",
    "STUDENT": "alexnet",
    "TEACHER": "vgg16",
    "PATTERN": "vgg*",
    "HEIGHTxWIDTH": "224x224",
    "image.png": "data/rig/hha/room_0000/000.png",
    "xmodal-demo/runs/distill/student-0": "runs/distill/NAME",
    "xmodal-demo/runs/finetune/teacher-0": "runs/finetune/RGB_RUN",
    "xmodal-demo/runs/finetune/transferred-0": "runs/finetune/HHA_RUN",
    "243,206": "3,7",
    "data/rig/hha/ID.png": "data/rig/hha/room_0000/000.png",
}
CAFFE_STUDENT = "ST_vgg_to_alexnet_hha.caffemodel"  # random too, in the layout of the published file
WEIGHTS = {name: f"{name}.pth" for name in ("squeezenet1_1", "squeezenet1_0")}  # random, in place of published ones
CALM = ("--device", "cpu", "--threads", "1", "--workers", "0")
SHORT = ("--iterations", "2", "--batch-size", "2", *CALM)

ARCHIVED = [5001, 5003, 5010]  # images of NYU Depth v2, one of each split


def filled_in(line: str) -> list[str]:
    """The words of a line, with something that lies in the folder in place of what is the reader's own."""
    return [STANDS_FOR.get(word, word) for word in words_of(line)]


def make_workplace(folder: Path) -> None:
    """Make everything; a second time costs as much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XMODAL_CACHE", str(folder / "cache"))
        _make_data()
        _make_rig()
        _make_raw_video()
        _make_labelled()
        _make_videos()
        _make_coco()
        _make_proposals()
        _make_runs()


def _run(*words: str) -> None:
    assert xmodal([*words, "--quiet"]) == 0, " ".join(words)


def _make_data() -> None:
    kinds = [word for kind in ("hha", "depth", "thermal") for word in ("--modality", kind)]
    rooms = "--scenes", "6", "--frames-per-scene", "2", "--size", "128x96", "--workers", "1"
    _run("prepare", "rooms", "--out", "data/nyud2", *rooms, *kinds)
    for name in ("data/rooms", "rooms-picture"):
        shutil.copytree("data/nyud2", name)
    for name, path in WEIGHTS.items():
        torch.save(build(name, seed=0).module.state_dict(), path)
    layers = {f"da_{name}": blobs for name, blobs in random_layers(CAFFENET).items()}
    large = write_caffemodel(Path.cwd().parent / CAFFE_STUDENT, layers, "layers")
    Path(CAFFE_STUDENT).symlink_to(large)  # copies of the folder share it


def _make_rig() -> None:
    """Colour, depth and thermal images, boxes and scenes, as somebody with a rig has them, and prepared."""
    for kind in ("rgb", "depth", "thermal"):
        shutil.copytree(f"data/nyud2/{kind}", f"rig/{kind}")
    for file in ("annotations/train.json", "annotations/val.json", "scenes.csv"):
        shutil.copy(f"data/nyud2/{file}", "rig")
    shared = "--rgb", "rig/rgb", "--out", "data/rig"
    labels = "--annotations", "train=rig/train.json", "--annotations", "val=rig/val.json", "--scenes", "rig/scenes.csv"
    depth = "--target", "rig/depth", "--modality", "hha", "--modality", "depth", "--depth-unit", "0.001"
    _run("prepare", "folder", *shared, *labels, *depth, "--camera", "117,117,64.5,48.5", "--workers", "1")
    _run("prepare", "folder", *shared, "--target", "rig/thermal", "--modality", "thermal", "--workers", "1")
    for part in ("1", "2"):
        parts = "--rgb", "rig/rgb", "--out", f"parts/{part}", "--shard", f"{part}/2", "--depth-unit", "0.001"
        _run("prepare", "folder", *parts, "--target", "rig/depth", "--modality", "disparity", "--workers", "1")


def _make_coco() -> None:
    """The rooms as COCO would have published them: its names of classes, its names of files."""
    names = {"sofa": "couch", "table": "dining table", "television": "tv"}
    for split in ("train", "val"):
        text = Path(f"data/nyud2/annotations/{split}.json").read_text()
        for own, published in names.items():
            text = text.replace(f'"name": "{own}"', f'"name": "{published}"')
        Path("coco/annotations").mkdir(parents=True, exist_ok=True)
        Path(f"coco/annotations/instances_{split}2017.json").write_text(text)
    shutil.copytree("data/nyud2/rgb", "coco/images")


def _make_raw_video() -> None:
    """Two frames of each of two scenes as a Kinect of NYU Depth v2 records them: a wall, 3.8 m away."""
    pixels = 640 * 480
    for scene in sorted(set(PreparedData.open(Path("data/nyud2")).scenes.values()))[:2]:
        folder = Path("raw", scene)
        folder.mkdir(parents=True)
        for time_s in (1.0, 2.0):
            (folder / f"d-{time_s}-1.pgm").write_bytes(b"P5 640 480 65535\n" + bytes([0xE8, 0x03]) * pixels)
            (folder / f"r-{time_s}-1.ppm").write_bytes(b"P6 640 480 255\n" + bytes(3 * pixels))


def _make_labelled() -> None:
    """NYU Depth v2 as it is published: the labelled file, the official splits, and an archive with superpixels."""
    write_labelled(Path("nyu_depth_v2_labeled.mat"), made_up())
    write_archive(Path("nyud2_data"), ARCHIVED)
    for number in ARCHIVED:
        write_png(Path(f"nyud2_sp/img_{number}.png"), np.ones(CROP_SIZE_HW, np.uint16))
    numbers = {split: sorted(n - FIRST_NUMBER + 1 for n in members) for split, members in split_numbers().items()}
    trainval = sorted((*numbers["train"], *numbers["val"]))
    scipy.io.savemat("splits.mat", {"trainNdxs": trainval, "testNdxs": numbers["test"]})


def _make_videos() -> None:
    """A few videos, and the same as JHMDB and UCF101 are published."""
    make_jhmdb(Path("jhmdb"), {"wave/a_0": (5, 1), "walk/c_0": (5, 1), "walk/b_0": (5, 2)})
    for path in sorted(Path("jhmdb/splits").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("split1", "split2")))
    make_ucf101(Path(), ["Archery/v_Archery_g08_c01.avi"], ["Archery/v_Archery_g01_c01.avi"])
    shutil.copytree("UCF-101", "videos")
    _run("prepare", "video", "--videos", "videos", "--out", "data/video", "--modality", "flow", "--workers", "1")
    _run("prepare", "jhmdb", "--videos", "jhmdb", "--out", "data/jhmdb", "--modality", "flow", "--workers", "1")
    torch.save(raft_small().state_dict(), "raft-small.pth")  # random, in place of the published one


def _make_proposals() -> None:
    """Bottom-up ones for both data sets, and the published file's layout: y first, counted from 1."""
    for data, modality in {"data/nyud2": "hha", "data/rig": "hha", "data/jhmdb": "rgb"}.items():
        _run("prepare", "proposals", data, "--method", "bottom-up", "--modality", modality, "--most", "50")
    for split in ("2", "3"):
        shutil.copytree("data/jhmdb", f"data/jhmdb-{split}")
    ids = [*PreparedData.open(Path("data/nyud2")).ids("train+val"), *(f"img_{number}" for number in ARCHIVED)]
    boxes = np.empty((len(ids), 1), dtype=object)
    boxes[:, 0] = [np.array([[1.0, 1.0, 96.0, 128.0], [11.0, 21.0, 40.0, 60.0]]) for _ in ids]
    scipy.io.savemat("nyud2_mcg_boxes.mat", {"bboxes": boxes, "imnames": np.array(ids, dtype=object)[:, None]})


def _make_runs() -> None:
    """Students, detectors on colour, HHA and flow, a proposal network, and an evaluation."""
    hha = "--data", "data/rig", "--modality", "hha", *SHORT
    squeezenet = "--backbone", "squeezenet1_1", "--size", "96"
    teacher = "--teacher", "squeezenet1_1", "--teacher-weights", "random", "--student", "squeezenet1_1"
    for name in ("rgb", "flow"):  # before the others: theirs are the latest
        _run("finetune", "--data", "data/jhmdb", "--modality", name, *SHORT, *squeezenet, "--run-name", f"jhmdb-{name}")
    flow = "--data", "data/jhmdb", "--modality", "flow", *SHORT
    _run("distill", *flow, *teacher, "--run-name", "jhmdb-flow", "--size", "96")
    _run("finetune", "--task", "classification", *flow, *squeezenet, "--run-name", "jhmdb-clips")
    _run("finetune", "--data", "data/rig", "--modality", "rgb", *SHORT, *squeezenet, "--run-name", "RGB_RUN")
    from_rgb = "--teacher-run", "runs/finetune/RGB_RUN", "--transfer", "auto", "--student", "squeezenet1_1"
    _run("distill", *hha, *from_rgb, "--size", "96", "--run-name", "FROM_RGB")
    _run("zero-shot", "--detector", "runs/finetune/RGB_RUN", "--student", "runs/distill/FROM_RGB", "--join-only")
    _run("distill", *hha, *teacher, "--run-name", "NAME", "--transfer", "features.3:features.3")
    for name in ("NAME", "HHA_RUN", "RUN_A", "RUN_B"):
        _run("finetune", *hha, *squeezenet, "--run-name", name)
    for name, kind in (("NAME", "hha"), ("HHA_RUN", "hha"), ("RGB_RUN", "rgb")):
        masks = "--task", "segmentation", "--init", f"runs/finetune/{name}", "--data", "data/rig", "--modality", kind
        _run("finetune", *masks, *SHORT, "--run-name", name)
    _run("evaluate", "runs/segmentation/NAME", "--data", "data/rig", "--split", "val")
    shutil.move(str(next(Path("runs/evaluate").iterdir()) / "detections.json"), "masks.json")
    shutil.rmtree("runs/evaluate")
    _run("evaluate", "runs/finetune/NAME", "--data", "data/rig", "--split", "val")
    next(Path("runs/evaluate").iterdir()).rename("runs/evaluate/DISPARITY_EVALUATION")
    rpn = "--method", "rpn", "--init", "random", "--iterations", "2", "--most", "50"
    _run("prepare", "proposals", "data/rooms", *rpn)
    next(path for path in Path("runs/rpn").iterdir() if not path.is_symlink()).rename("runs/rpn/NAME")
