"""A furnished room: what stands where, so that nothing meets anything else, and the light in it.

A room is of a kind (bedroom, office, ...) that says what is tried; each piece is put at a wall, on the floor, on the
wall or on another piece, at places drawn until one is free. Every draw comes from (seed, room).

World: x and y across the floor with the room around the origin, z up, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.transforms import generator
from xmodal_cli.datasets.rooms import fixtures, furniture
from xmodal_cli.datasets.rooms.looks import Looks, linear, room_surfaces
from xmodal_cli.datasets.rooms.pieces import CLASSES, Piece
from xmodal_cli.datasets.rooms.solids import BOX, Solid, Surface, yaw

Maker = Callable[[Looks], Piece]

TRIES = 30  # places drawn for a piece before the room does without it
TOUCH_M = 0.002  # what stands on a thing may reach this far into it
DOOR_M = 0.25  # kept free around a door
WALL_M = 0.04  # kept free around what stands at a wall
GAP_M = 0.03  # between a piece and the wall behind it
SKIRTING_M = 0.09  # height of the skirting board

# What is tried in a room of each kind: (where, what, how often at least, at most). What fills the room comes first.
AT_WALL, ON_FLOOR, ON_WALL, ON_TOP, AS_PILLOW, AS_SINK = "at wall", "on floor", "on wall", "on top", "pillow", "sink"
Wish = tuple[str, Maker, int, int]
ANYWHERE: tuple[Wish, ...] = (
    (ON_FLOOR, fixtures.garbage_bin, 0, 1),
    (ON_FLOOR, fixtures.box, 0, 1),
    (ON_TOP, fixtures.box, 0, 1),
    (ON_WALL, fixtures.picture, 1, 3),
    (ON_WALL, fixtures.window, 0, 1),
)
KINDS: dict[str, tuple[Wish, ...]] = {
    "bedroom": (
        (AT_WALL, furniture.bed, 1, 1), (ON_WALL, fixtures.door, 1, 1), (AT_WALL, furniture.night_stand, 0, 2),
        (AT_WALL, furniture.dresser, 1, 1), (AS_PILLOW, fixtures.pillow, 1, 3), (ON_TOP, fixtures.table_lamp, 0, 1),
        (ON_TOP, fixtures.standing_television, 0, 1), (ON_FLOOR, furniture.chair, 0, 1),
        (ON_WALL, fixtures.television, 0, 1),
    ),
    "living": (
        (AT_WALL, furniture.sofa, 1, 1), (ON_WALL, fixtures.door, 1, 1), (ON_FLOOR, furniture.table, 1, 1),
        (AT_WALL, furniture.bookshelf, 0, 2), (ON_WALL, fixtures.television, 1, 1), (AS_PILLOW, fixtures.pillow, 1, 3),
        (AT_WALL, furniture.dresser, 0, 1), (ON_TOP, fixtures.standing_television, 0, 1),
        (ON_TOP, fixtures.table_lamp, 0, 1), (ON_FLOOR, furniture.chair, 0, 2), (ON_FLOOR, fixtures.floor_lamp, 0, 1),
    ),
    "office": (
        (AT_WALL, furniture.desk, 1, 2), (ON_WALL, fixtures.door, 1, 1), (AT_WALL, furniture.bookshelf, 1, 2),
        (ON_TOP, fixtures.monitor, 1, 3), (ON_FLOOR, furniture.chair, 1, 2), (ON_TOP, fixtures.table_lamp, 0, 1),
        (ON_FLOOR, fixtures.garbage_bin, 1, 1), (AT_WALL, furniture.night_stand, 0, 1),
    ),
    "kitchen": (
        (AT_WALL, furniture.counter, 1, 2), (ON_WALL, fixtures.door, 1, 1), (AS_SINK, fixtures.counter_sink, 1, 2),
        (ON_FLOOR, furniture.table, 1, 1), (ON_FLOOR, furniture.chair, 1, 3), (ON_FLOOR, fixtures.garbage_bin, 1, 1),
        (ON_TOP, fixtures.box, 0, 2), (ON_WALL, fixtures.television, 0, 1),
    ),
    "bathroom": (
        (AT_WALL, fixtures.bathtub, 1, 1), (ON_WALL, fixtures.door, 1, 1), (AT_WALL, fixtures.toilet, 1, 1),
        (AT_WALL, fixtures.standing_sink, 1, 1), (ON_FLOOR, fixtures.garbage_bin, 1, 1),
        (AT_WALL, furniture.counter, 0, 1), (AS_SINK, fixtures.counter_sink, 0, 1), (AT_WALL, furniture.dresser, 0, 1),
    ),
}  # fmt: skip
KIND_SHARES = (0.25, 0.18, 0.2, 0.14, 0.23)  # of rooms, in the order of KINDS: so that classes are about as frequent
EVERYTHING: tuple[Maker, ...] = (
    furniture.dresser, furniture.night_stand, furniture.bookshelf, furniture.desk, fixtures.toilet, furniture.sofa,
    fixtures.standing_sink, fixtures.bathtub,
)  # fmt: skip
STRAY = 0.35  # share of rooms with a piece that belongs elsewhere: the room must not tell the class


@dataclass(frozen=True)
class Placed:
    """A piece in the room.

    Args:
        label: index into CLASSES; -1 for things without a class.
        solids: in world coordinates.
        piece: in its own frame.
        position_m: `(3,)` of its own origin.
        angle_rad: its yaw.
        boxes: `(S, 2, 3)` lowest and highest corner of the upright box around each solid.
    """

    label: int
    solids: Sequence[Solid]
    piece: Piece
    position_m: NDArray[np.float64]
    angle_rad: float
    boxes: NDArray[np.float64]

    @cached_property
    def around(self) -> NDArray[np.float64]:
        """The upright box around all of it, `(1, 2, 3)`."""
        return np.stack([self.boxes[:, 0].min(0), self.boxes[:, 1].max(0)])[None]


@dataclass(frozen=True)
class Light:
    """The light in a room.

    Args:
        position_m: `(3,)` of the lamp below the ceiling.
        lamp: `(3,)` linear RGB of that lamp.
        window_direction: `(3,)` unit vector towards the window light.
        window: `(3,)` linear RGB of it.
        ambient: `(3,)` linear RGB of light from everywhere.
    """

    position_m: NDArray[np.float64]
    lamp: NDArray[np.float64]
    window_direction: NDArray[np.float64]
    window: NDArray[np.float64]
    ambient: NDArray[np.float64]


@dataclass
class Scene:
    """A furnished room.

    Args:
        kind: of room.
        size_m: `(3,)` width, depth and height.
        surfaces: walls (4, in the order low x, high x, low y, high y), floor, ceiling.
        light: in it.
        placed: what stands in it; the first is what belongs to the room itself.
    """

    kind: str
    size_m: NDArray[np.float64]
    surfaces: Sequence[Surface]
    light: Light
    placed: list[Placed] = field(default_factory=list)

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """The upright boxes around all solids, `(N, 2, 3)`; the room must be furnished."""
        return np.concatenate([placed.boxes for placed in self.placed])

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Middles of the things that have a class, `(N, 3)`; the room must be furnished."""
        return np.array([placed.around[0].mean(0) for placed in self.placed if placed.label >= 0]).reshape(-1, 3)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Classes of those things, `(N,)`."""
        return np.array([placed.label for placed in self.placed if placed.label >= 0], np.intp)

    @property
    def shell(self) -> Solid:
        """The room as a box that is seen from inside."""
        return Solid(BOX, np.array([0, 0, self.size_m[2] / 2]), self.size_m / 2, np.eye(3), self.surfaces[0])


def furnish(seed: int, number: int) -> Scene:
    """The room of that number: the same for the same seed, on every machine.

    Args:
        seed: of the data set.
        number: of the room, from 0.

    Example:
        >>> room = furnish(0, 3)
        >>> len(room.placed) > 5, room.kind == furnish(0, 3).kind
        (True, True)
    """
    random = generator(seed, "room", number)
    kind = str(random.choice(list(KINDS), p=KIND_SHARES))
    size = np.array([*random.uniform(3.2, 5.2, 2), random.uniform(2.35, 2.75)])
    wall, floor, ceiling = room_surfaces(random)
    looks = Looks(random, wall)
    scene = Scene(kind, size, [wall] * 4 + [floor, ceiling], _light(random, size))
    scene.placed.append(_skirting(scene, looks))
    wishes = [*KINDS[kind], *ANYWHERE]
    if random.random() < STRAY:
        wishes.insert(2, (AT_WALL, EVERYTHING[int(random.integers(len(EVERYTHING)))], 1, 1))
    for where, make, least, most in wishes:
        for _ in range(int(random.integers(least, most + 1))):
            _place(scene, make(looks), where, random)
    return scene


def boxes_of(solids: Sequence[Solid]) -> NDArray[np.float64]:
    """The upright boxes around solids, `(S, 2, 3)`: lowest and highest corner."""
    corners = np.stack([solid.corners_m() for solid in solids])
    return np.stack([corners.min(1), corners.max(1)], axis=1)


def meets(boxes: NDArray[np.float64], others: NDArray[np.float64], slack_m: float = TOUCH_M) -> bool:
    """Whether any box of one set reaches into one of another by more than a touch.

    Example:
        >>> cube = np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]])
        >>> meets(cube, cube + 0.5), meets(cube, cube + 1.0)
        (True, False)
    """
    low = np.maximum(boxes[:, None, 0], others[None, :, 0])
    high = np.minimum(boxes[:, None, 1], others[None, :, 1])
    return bool((high - low > slack_m).all(-1).any())


def put(piece: Piece, position_m: NDArray[np.float64], angle_rad: float) -> Placed:
    """A piece moved from its own frame into the room."""
    turn = yaw(angle_rad)
    solids = [replace(s, centre_m=position_m + turn @ s.centre_m, axes=turn @ s.axes) for s in piece.solids]
    label = CLASSES.index(piece.name) if piece.name else -1
    return Placed(label, solids, piece, position_m, angle_rad, boxes_of(solids))


def _place(scene: Scene, piece: Piece, where: str, random: np.random.Generator) -> None:
    """Put a piece somewhere it fits, or leave it out."""
    corners = np.stack([solid.corners_m() for solid in piece.solids])
    for _ in range(TRIES):
        found = PLACES[where](scene, piece, random)
        if found is None:
            return
        moved = corners @ yaw(found[1]).T + found[0]
        if _fits(scene, np.stack([moved.min(1), moved.max(1)], axis=1), _free_m(piece, where)):
            scene.placed.append(put(piece, *found))
            return


def _free_m(piece: Piece, where: str) -> float:
    """What a piece keeps free around it; none stands close before a door."""
    return DOOR_M if piece.name == "door" else WALL_M if where == AT_WALL else 0.0


def _fits(scene: Scene, boxes: NDArray[np.float64], free_m: float) -> bool:
    """Whether something made of these upright boxes lies within the room and meets nothing."""
    half = scene.size_m[:2] / 2
    low, high = boxes[:, 0].min(0), boxes[:, 1].max(0)
    if (low[:2] < -half).any() or (high[:2] > half).any() or high[2] > scene.size_m[2]:
        return False
    margin = np.array([free_m, free_m, 0.0])
    around = np.stack([low - margin, high + margin])[None]
    standing = [other for other in scene.placed if len(other.boxes)]
    if not standing:
        return True
    everything = np.concatenate([other.around for other in standing])
    near = (np.minimum(around[0, 1], everything[:, 1]) - np.maximum(around[0, 0], everything[:, 0]) > TOUCH_M).all(1)
    own = around if free_m else boxes
    return not any(meets(own, standing[index].boxes) for index in np.flatnonzero(near))


Found = tuple[NDArray[np.float64], float] | None


def _at_wall(scene: Scene, piece: Piece, random: np.random.Generator, z: float = 0.0, gap: float = GAP_M) -> Found:
    """With its back to one of the four walls."""
    wall = int(random.integers(4))
    angle = wall * np.pi / 2  # 0: the wall at high y
    across, along = scene.size_m[:2] if wall % 2 == 0 else scene.size_m[1::-1]
    room = (across - piece.width_m) / 2 - 0.02
    if room < 0:
        return np.array([9e9, 0, 0]), 0.0  # fits no such wall
    place = np.array([random.uniform(-room, room), along / 2 - piece.depth_m / 2 - gap, z])
    return yaw(angle) @ place, float(angle)


def _on_wall(scene: Scene, piece: Piece, random: np.random.Generator) -> Found:
    """Hanging, or a door, flush with the wall."""
    height = max(solid.corners_m()[:, 2].max() for solid in piece.solids)
    if piece.name == "door":
        return _at_wall(scene, piece, random, gap=0.004)
    middle = float(random.uniform(1.3, 1.65))
    return _at_wall(scene, piece, random, z=float(np.clip(middle - height / 2, 0.6, 1.4)), gap=0.004)


def _on_floor(scene: Scene, piece: Piece, random: np.random.Generator) -> Found:
    """Anywhere, turned anyhow."""
    half = scene.size_m[:2] / 2 - 0.25
    return np.array([*random.uniform(-half, half), 0.0]), float(random.uniform(-np.pi, np.pi))


def _on(kind: str, jitter_rad: float) -> Callable[[Scene, Piece, np.random.Generator], Found]:
    def place(scene: Scene, piece: Piece, random: np.random.Generator) -> Found:
        tops = [(host, top) for host in scene.placed for top in host.piece.tops if top.kind == kind]
        if kind == "sink":
            tops = [(host, top) for host in scene.placed for top in host.piece.tops if host.piece.name == "counter"]
        if not tops:
            return None
        host, top = tops[int(random.integers(len(tops)))]
        spare = np.array([piece.width_m, piece.depth_m]) / 2
        low, high = np.array(top.low) + spare * 0.9, np.array(top.high) - spare * 0.9
        if (low > high).any():
            low = high = (np.array(top.low) + np.array(top.high)) / 2
        place_xy = random.uniform(np.minimum(low, high), np.maximum(low, high))
        turn = yaw(host.angle_rad) @ np.array([*place_xy, top.z])
        return host.position_m + turn, host.angle_rad + float(random.uniform(-jitter_rad, jitter_rad))

    return place


PLACES: dict[str, Callable[[Scene, Piece, np.random.Generator], Found]] = {
    AT_WALL: _at_wall,
    ON_FLOOR: _on_floor,
    ON_WALL: _on_wall,
    ON_TOP: _on("top", 0.35),
    AS_PILLOW: _on("pillows", 0.2),
    AS_SINK: _on("sink", 0.0),
}


def _light(random: np.random.Generator, size: NDArray[np.float64]) -> Light:
    """A lamp, light from a window and light from everywhere, each of its own hue and strength."""

    def tinted(low: float, high: float, saturation: float) -> NDArray[np.float64]:
        return np.array(linear(random.random(), random.uniform(0, saturation), 1.0)) * random.uniform(low, high)

    angle, rise = random.uniform(-np.pi, np.pi), random.uniform(0.15, 0.8)
    direction = np.array([np.cos(angle), np.sin(angle), rise])
    return Light(
        position_m=np.array([*(random.uniform(-0.3, 0.3, 2) * size[:2]), size[2] - 0.3]),
        lamp=tinted(0.5, 1.6, 0.2),
        window_direction=direction / np.linalg.norm(direction),
        window=tinted(0.0, 0.7, 0.2),
        ambient=tinted(0.2, 0.5, 0.12),
    )


def _skirting(scene: Scene, looks: Looks) -> Placed:
    """Boards along the walls: they belong to the room, and things may stand before them."""
    wood = looks.wood()
    x, y = scene.size_m[:2] / 2
    boards = ((-x, 0.0, 0.02, 2 * y), (x, 0.0, 0.02, 2 * y), (0.0, -y, 2 * x, 0.02), (0.0, y, 2 * x, 0.02))
    solids = [_board(across, along, wide, deep, wood) for across, along, wide, deep in boards]
    return Placed(-1, solids, Piece("", solids, 0, 0), np.zeros(3), 0.0, np.zeros((0, 2, 3)))


def _board(x: float, y: float, width: float, depth: float, surface: Surface) -> Solid:
    """A skirting board by its middle on the floor."""
    half = np.array([width, depth, SKIRTING_M]) / 2
    return Solid(BOX, np.array([x, y, SKIRTING_M / 2]), half, np.eye(3), surface)
