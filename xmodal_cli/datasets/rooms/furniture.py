"""The large furniture: what stands at walls and on floors, of the paper's classes.

Sizes are those of shops, in metres, each drawn from a range; classes of one shape (night stand, dresser, box, bin) have
ranges that overlap.
"""

from __future__ import annotations

from xmodal_cli.datasets.rooms.looks import COVERS, UPHOLSTERY, Looks
from xmodal_cli.datasets.rooms.patterns import BOOKS
from xmodal_cli.datasets.rooms.pieces import (
    Piece,
    Top,
    block,
    column,
    front_of,
    legs,
    moved,
    sizes,
    whole_top,
)


def bed(looks: Looks) -> Piece:
    """A frame, a mattress, a cover over most of it, a headboard."""
    width, depth, height = sizes(looks, (0.95, 1.7), (1.9, 2.1), (0.4, 0.55))
    wood, sheet, cover = looks.wood(), looks.cloth(UPHOLSTERY), looks.cloth(COVERS)
    thick = 0.22
    solids = [
        block(0, 0, 0.06, width, depth, height - thick - 0.06, wood),
        block(0, 0, height - thick, width - 0.04, depth - 0.04, thick, sheet),
        block(0, -0.17 * depth, height - thick - 0.06, width + 0.03, depth * 0.66, thick + 0.1, cover),
    ]
    if looks.random.random() < 0.8:
        tall = float(looks.random.uniform(0.8, 1.15))
        solids.append(block(0, depth / 2 + 0.03, 0, width + 0.04, 0.06, tall, wood))
    near = Top((-width / 2 + 0.05, 0.24 * depth), (width / 2 - 0.05, depth / 2 - 0.04), height, "pillows")
    return Piece("bed", solids, width + 0.04, depth + 0.12, [near])


def bookshelf(looks: Looks) -> Piece:
    """Sides, back, boards, and books on them."""
    width, depth, height = sizes(looks, (0.7, 1.2), (0.26, 0.36), (1.2, 2.1))
    wood, thick, boards = looks.wood(), 0.03, int(looks.random.integers(4, 6))
    solids = [
        block(-width / 2 + thick / 2, 0, 0, thick, depth, height, wood),
        block(width / 2 - thick / 2, 0, 0, thick, depth, height, wood),
        block(0, depth / 2 - 0.01, 0, width - 2 * thick, 0.02, height, wood),
    ]
    gap = (height - thick) / boards
    for board in range(boards + 1):
        solids.append(block(0, 0, board * gap, width, depth, thick, wood))
        if board < boards and looks.random.random() < 0.9:
            share, tall = looks.random.uniform(0.45, 0.97), gap * looks.random.uniform(0.6, 0.85)
            left = looks.random.uniform(-1, 1) * (1 - share) * (width - 2 * thick) / 2
            books = looks.picture(BOOKS[int(looks.random.integers(len(BOOKS)))])
            length = share * (width - 2 * thick)
            solids.append(block(left, 0.02, board * gap + thick, length, depth * 0.7, tall, books))
    return Piece("bookshelf", solids, width, depth, [whole_top(width, depth, height + thick)])


def chair(looks: Looks) -> Piece:
    """A seat at 45 cm, a back that leans, four legs or one column on a star."""
    width, depth, seat = sizes(looks, (0.4, 0.52), (0.4, 0.5), (0.42, 0.48))
    cloth = looks.cloth() if looks.random.random() < 0.5 else looks.wood()
    frame = looks.wood() if looks.random.random() < 0.6 else looks.metal()
    tall = float(looks.random.uniform(0.38, 0.55))
    solids = [
        block(0, 0, seat, width, depth, 0.05, cloth),
        block(0, depth / 2 - 0.0, seat + 0.12, width * 0.95, 0.04, tall - 0.07, cloth, tilt=0.12),
    ]
    if looks.random.random() < 0.35:
        solids += [column(0, 0, 0.06, 0.03, seat - 0.06, frame), column(0, 0, 0, width * 0.5, 0.06, frame, taper=-0.4)]
    else:
        solids += legs(looks, width, depth, seat, frame)
    post = block(-width * 0.4, depth / 2, seat, 0.035, 0.035, tall, frame, tilt=0.12)
    solids += [post, block(width * 0.4, depth / 2, seat, 0.035, 0.035, tall, frame, tilt=0.12)]
    if looks.random.random() < 0.25:
        solids += [block(side * width * 0.54, 0, seat + 0.2, 0.05, depth * 0.8, 0.04, frame) for side in (-1, 1)]
    return Piece("chair", solids, width * 1.1, depth + 0.16)


def counter(looks: Looks) -> Piece:
    """A row of cupboards under a worktop."""
    width, depth, height = sizes(looks, (1.3, 2.4), (0.58, 0.65), (0.85, 0.93))
    wood, slab = looks.wood(), looks.wood() if looks.random.random() < 0.5 else looks.ceramic()
    count = int(looks.random.integers(2, 4))
    step = width / count
    solids = [
        block(0, 0.03, 0, width, depth - 0.12, 0.1, looks.dark(0.2)),
        block(0, 0, 0.1, width, depth, height - 0.14, wood),
        block(0, -0.01, height - 0.04, width + 0.02, depth + 0.04, 0.04, slab),
    ]
    for number in range(count):
        pattern = ("doors", "drawers-3", "doors")[int(looks.random.integers(3))]
        front = front_of(step, depth, 0.11, height - 0.16, looks.fronts(pattern, wood))
        solids.append(moved(front, (number + 0.5) * step - width / 2))
    return Piece("counter", solids, width + 0.02, depth + 0.06, [whole_top(width, depth, height)])


def desk(looks: Looks) -> Piece:
    """A top, drawers on one side, a panel or legs on the other."""
    width, depth, height = sizes(looks, (1.1, 1.6), (0.55, 0.75), (0.7, 0.77))
    wood = looks.wood()
    side = 1.0 if looks.random.random() < 0.5 else -1.0
    chest = float(looks.random.uniform(0.32, 0.45))
    place = side * (width / 2 - chest / 2 - 0.02)
    solids = [
        block(0, 0, height - 0.035, width, depth, 0.035, wood),
        block(place, 0, 0, chest, depth * 0.92, height - 0.035, wood),
        moved(front_of(chest, depth * 0.92, 0.02, height - 0.06, looks.fronts("drawers-3", wood)), place),
        block(-side * (width / 2 - 0.03), 0, 0, 0.04, depth * 0.95, height - 0.035, wood),
    ]
    if looks.random.random() < 0.6:
        solids.append(block(0, depth * 0.4, height * 0.4, width * 0.9, 0.02, height * 0.5, wood))
    return Piece("desk", solids, width, depth, [whole_top(width, depth, height)])


def dresser(looks: Looks) -> Piece:
    """A chest of drawers."""
    width, depth, height = sizes(looks, (0.75, 1.35), (0.42, 0.52), (0.72, 1.15))
    return _chest(looks, "dresser", (width, depth, height), "drawers-6" if width > 0.95 else "drawers-3")


def night_stand(looks: Looks) -> Piece:
    """A small chest beside a bed."""
    return _chest(looks, "night-stand", sizes(looks, (0.38, 0.55), (0.34, 0.45), (0.4, 0.62)), "drawers-2")


def sofa(looks: Looks) -> Piece:
    """A base, cushions, arms and a back, all of one cloth."""
    width, depth, seat = sizes(looks, (1.3, 2.2), (0.8, 0.95), (0.4, 0.46))
    cloth = looks.cloth(UPHOLSTERY)
    cushions = cloth if looks.random.random() < 0.7 else looks.cloth(UPHOLSTERY)
    arm, back, tall = 0.18, 0.22, float(looks.random.uniform(0.75, 0.95))
    inner, count = width - 2 * arm, 1 + int(width > 1.2) + int(width > 1.8)
    solids = [
        block(0, 0, 0.05, width, depth, seat - 0.19, cloth),
        block(0, depth / 2 - back / 2, seat - 0.14, inner, back, tall - seat + 0.14, cloth),
    ]
    solids += [block(s * (width - arm) / 2, 0, seat - 0.14, arm, depth, 0.34, cloth) for s in (-1, 1)]
    step = inner / count
    for number in range(count):
        x = (number + 0.5) * step - inner / 2
        solids.append(block(x, -back / 2, seat - 0.14, step - 0.015, depth - back, 0.14, cushions))
    place = Top((-inner / 2, depth / 2 - back - 0.45), (inner / 2, depth / 2 - back - 0.01), seat, "pillows")
    return Piece("sofa", solids, width, depth, [place])


def table(looks: Looks) -> Piece:
    """A dining or a coffee table, square or round."""
    low = looks.random.random() < 0.35
    width, depth, height = sizes(looks, (0.8, 1.5), (0.6, 0.95), (0.4, 0.5) if low else (0.7, 0.77))
    wood = looks.wood()
    if looks.random.random() < 0.3:
        radius = float(looks.random.uniform(0.4, 0.6))
        solids = [column(0, 0, height - 0.04, radius, 0.04, wood), column(0, 0, 0.04, 0.05, height - 0.08, wood),
                  column(0, 0, 0, radius * 0.55, 0.04, wood)]  # fmt: skip
        reach = radius * 0.7
        return Piece("table", solids, 2 * radius, 2 * radius, [Top((-reach, -reach), (reach, reach), height)])
    solids = [block(0, 0, height - 0.04, width, depth, 0.04, wood), *legs(looks, width, depth, height - 0.04, wood)]
    if looks.random.random() < 0.5:
        solids.append(block(0, 0, height - 0.11, width * 0.9, depth * 0.85, 0.07, wood))
    return Piece("table", solids, width, depth, [whole_top(width, depth, height)])


def _chest(looks: Looks, name: str, sizes: tuple[float, float, float], pattern: str) -> Piece:
    """A block with drawers in front, and sometimes knobs, a plinth or legs."""
    width, depth, height = sizes
    wood = looks.wood()
    raised = 0.1 if looks.random.random() < 0.4 else 0.0
    solids = [block(0, 0, raised, width, depth, height - raised, wood),
              front_of(width, depth, raised + 0.02, height - raised - 0.03, looks.fronts(pattern, wood))]  # fmt: skip
    if raised:
        solids += legs(looks, width, depth, raised, wood)
    if looks.random.random() < 0.5:
        solids.append(block(0, -0.01, height - 0.025, width + 0.03, depth + 0.03, 0.03, wood))
        height += 0.005
    return Piece(name, solids, width + 0.03, depth + 0.05, [whole_top(width, depth, height)])
