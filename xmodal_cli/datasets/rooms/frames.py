"""One made-up room, from its number to its files: the work that runs in a pool of processes.

A room's frames are rendered, seen through each sensor, encoded by the project's own encoders and written. What belongs
to no image (objects, poses, figures) comes back, and is kept in a small file until the data set is finished, so that an
interrupted run goes on after the last whole room.

Shapes: `H x W` pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.data.transforms import generator
from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.frames import unseen
from xmodal_cli.datasets.rooms import sensor
from xmodal_cli.datasets.rooms.camera import Pose, flow_between, kinect, rays
from xmodal_cli.datasets.rooms.objects import objects_of
from xmodal_cli.datasets.rooms.path import FRAME_S, times, walk
from xmodal_cli.datasets.rooms.scene import furnish
from xmodal_cli.datasets.rooms.shading import Shading, shade
from xmodal_cli.datasets.rooms.trace import Model, Trace, build, trace
from xmodal_cli.modalities import Frame, encode_frame, modality
from xmodal_cli.modalities import depth as metric
from xmodal_cli.modalities.geometry import Camera

PARTS = ".rooms"  # holds what finished rooms need to become part of the data set
DIGITS = 4  # of a room's number


@dataclass(frozen=True)
class RoomRecipe:
    """What to make of every room.

    Args:
        root: the prepared data set.
        seed: of all rooms.
        frames: kept of each room.
        size_hw: of all images, pixels.
        modalities: beside rgb.
    """

    root: Path
    seed: int
    frames: int
    size_hw: tuple[int, int]
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class RoomResult:
    """What became of one room.

    Args:
        number: of the room, from 0.
        rows: manifest rows of its files.
        objects: by ID, COCO entries without ids.
        poses: by ID, the numbers of `pose_numbers`.
        holes: by ID, pixels that the depth sensor did not see.
        medians_m: by ID, the median depth.
        made: files written; 0 for a room that an earlier run made.
    """

    number: int
    rows: tuple[ManifestRow, ...]
    objects: Mapping[str, list[dict[str, Any]]]
    poses: Mapping[str, list[float]]
    holes: Mapping[str, int]
    medians_m: Mapping[str, float]
    made: int


@dataclass(frozen=True)
class RoomFrame:
    """One frame of a room, as geometry and sensors have it, before it is encoded.

    Args:
        id: its ID.
        pose: of its camera.
        following: the pose a thirtieth of a second later.
        found: what every pixel sees.
        shading: its light and materials.
        model: the room.
        random: of this frame's sensors.
    """

    id: str
    pose: Pose
    following: Pose
    found: Trace
    shading: Shading
    model: Model
    random: np.random.Generator


def scene_name(number: int) -> str:
    """The name of a room, which its frames' IDs begin with.

    Example:
        >>> scene_name(7)
        'room_0007'
    """
    return f"room_{number:0{DIGITS}d}"


def prepare_room(recipe: RoomRecipe, number: int) -> RoomResult:
    """Make one room's files, or read back what an earlier run made of it.

    Args:
        recipe: how.
        number: of the room, from 0.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    part = recipe.root / PARTS / f"{scene_name(number)}.json"
    finished = _read_part(recipe, part)
    if finished is not None:
        return finished
    rows: list[ManifestRow] = []
    objects, poses, holes, medians = {}, {}, {}, {}
    for frame in render_room(recipe, number):
        encoded, hole_px = encode_room_frame(recipe, frame)
        rows += [_write(recipe, frame.id, name, content) for name, content in encoded.items()]
        objects[frame.id] = objects_of(frame.found, frame.model)
        poses[frame.id] = pose_numbers(frame.pose, frame.following)
        holes[frame.id] = hole_px
        medians[frame.id] = round(float(np.median(frame.found.depth_m)), 4)
    result = RoomResult(number, tuple(rows), objects, poses, holes, medians, len(rows))
    part.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(part, json.dumps(asdict(result)).encode(), sync=False)
    return result


def render_room(recipe: RoomRecipe, number: int) -> Iterator[RoomFrame]:
    """The frames of a room, one by one; every draw comes from (seed, room, frame).

    Args:
        recipe: seed, size and number of frames.
        number: of the room, from 0.
    """
    camera = kinect(recipe.size_hw[1], recipe.size_hw[0])
    scene = furnish(recipe.seed, number)
    model = build(scene)
    random = generator(recipe.seed, "walk", number)
    path = walk(scene, random)
    for index, time_s in enumerate(times(recipe.frames, path.seconds, random)):
        pose, following = path.pose(float(time_s)), path.pose(float(time_s) + FRAME_S)
        found = trace(model, pose, camera, recipe.size_hw)
        yield RoomFrame(
            f"{scene_name(number)}/{index:03d}",
            pose,
            following,
            found,
            shade(model, found, pose, camera),
            model,
            generator(recipe.seed, "sensors", number, index),
        )


def encode_room_frame(recipe: RoomRecipe, frame: RoomFrame) -> tuple[dict[str, bytes], int]:
    """The files of one frame by modality, rgb first, and how many pixels the depth sensor did not see.

    Args:
        recipe: size and modalities.
        frame: from `render_room`.
    """
    camera = kinect(recipe.size_hw[1], recipe.size_hw[0])
    depth_m, random = frame.found.depth_m, frame.random
    # Drawn in one order whatever is wanted, so that no modality depends on which others are made.
    rgb = sensor.colour(frame.shading, sensor.edges_of(frame.found), random)
    raw = sensor.raw_depth(depth_m, frame.shading, camera, random)
    height_m = _height(frame, camera)
    warmth = sensor.thermal(frame.shading, height_m, random)
    sensed = _filled(raw, camera)
    flow_px = flow_between(depth_m, frame.pose, frame.following, camera, rays(camera, recipe.size_hw))
    encoded = {RGB: images.encode_jpeg(rgb)}
    for name in recipe.modalities:
        if name == RAW_DEPTH:
            image: NDArray[Any] = raw
        elif name == "depth":
            image = sensor.exact_depth(depth_m)
        elif modality(name).source == "depth":
            image = encode_frame(name, sensed)
        elif modality(name).source == "flow":
            image = encode_frame(name, Frame(flow_px))
        elif modality(name).source == "thermal":
            image = encode_frame(name, Frame(warmth, range=sensor.thermal_range()))
        else:
            image = encode_frame(name, Frame(rgb))
        encoded[name] = images.encode_png(image, fast=True)
    return encoded, int(np.count_nonzero(raw == 0))


def pose_numbers(pose: Pose, following: Pose) -> list[float]:
    """Position and rotation (row by row) of a frame, the same of the next, and gravity in the camera: 27 numbers."""
    parts = (pose.position_m, pose.rotation, following.position_m, following.rotation, pose.gravity)
    return [float(number) for part in parts for number in part.ravel()]


def _filled(raw: NDArray[np.uint16], camera: Camera) -> Frame:
    """What the encoders of depth are given, as `prepare folder` gives it: metres, holes filled, and where they were."""
    missing = unseen(raw)
    depth_m = metric.to_metres(raw, 1 / sensor.MM_PER_M)
    if missing.all():
        return Frame(np.full(raw.shape, sensor.FARTHEST_M), camera, missing)
    return Frame(metric.fill_holes(depth_m, missing), camera, missing if missing.any() else None)


def _height(frame: RoomFrame, camera: Camera) -> NDArray[np.float32]:
    """Height of every pixel above the floor, metres."""
    size_hw = (frame.found.depth_m.shape[0], frame.found.depth_m.shape[1])
    upward = frame.pose.rotation[2].astype(np.float32) @ rays(camera, size_hw).reshape(3, -1)
    return np.asarray(upward.reshape(size_hw) * frame.found.depth_m + np.float32(frame.pose.position_m[2]))


def _write(recipe: RoomRecipe, identifier: str, name: str, content: bytes) -> ManifestRow:
    file = f"{name}/{identifier}{'.jpg' if name == RGB else '.png'}"
    path = recipe.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content, sync=False)  # made again by the same command if the power fails
    digest = hashlib.sha256(content).hexdigest()
    return ManifestRow(identifier, name, file, *recipe.size_hw, len(content), digest)


def _read_part(recipe: RoomRecipe, part: Path) -> RoomResult | None:
    """What an earlier run made of a room, if all its files are there."""
    try:
        document = json.loads(part.read_bytes())
        found = RoomResult(**document)
        result = replace(found, rows=tuple(ManifestRow(**row) for row in document["rows"]), made=0)
        whole = all((recipe.root / row.file).stat().st_size == row.bytes for row in result.rows)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    made = {row.modality for row in result.rows}
    return result if whole and made == {RGB, *recipe.modalities} else None
