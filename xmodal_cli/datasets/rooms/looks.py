"""What things in a room are made of: surfaces drawn at random, from materials that several classes share.

Colours are wide and overlap between classes, and every so often a piece of furniture takes the look of the wall behind
it or of its neighbours: then colour says little and shape must speak. Wood is wood on tables, desks and shelves; cloth
is cloth on beds, sofas and chairs; what is ceramic is white, or not: such classes differ by shape alone.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xmodal_cli.datasets.rooms.patterns import INDEX
from xmodal_cli.datasets.rooms.solids import Surface

Colour = tuple[float, float, float]

CAMOUFLAGED = 0.1  # share of materials that take the look of the wall
SHARED = 0.3  # share that take the look of another thing of that material in the room
GAMMA = 2.2  # colours are drawn as they look on a screen and kept as light
WARMTH_C = (19.0, 24.0)  # of furniture: sunlit, used or neither
UPHOLSTERY = ("plain", "weave", "carpet", "plaid")
COVERS = ("stripes", "checks", "dots", "flowers", "plaid", "zigzag")
CLOTHS = ("plain", "weave", "stripes", "checks", "dots", "flowers", "plaid", "zigzag", "carpet")


def linear(hue: float, saturation: float, value: float) -> Colour:
    """Light of a colour given by hue, saturation and value, each 0 to 1.

    Example:
        >>> linear(0.0, 1.0, 1.0)
        (1.0, 0.0, 0.0)
    """
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (red**GAMMA, green**GAMMA, blue**GAMMA)


@dataclass
class Looks:
    """Draws surfaces for one room.

    Args:
        random: of this room.
        wall: the look of its walls.
        seen: surfaces drawn so far, by material.
    """

    random: np.random.Generator
    wall: Surface
    seen: dict[str, list[Surface]] = field(default_factory=dict)

    def wood(self) -> Surface:
        """Wood, pale to dark, natural or painted."""
        if self.random.random() < 0.35:
            return self._draw("wood", "plain", self._any(0.35, (0.2, 0.95)), 0.12, 0.8)
        colour = (self._between(0.03, 0.11), self._between(0.25, 0.7), self._between(0.2, 0.8))
        return self._draw("wood", "grain", colour, 0.28, self._between(0.4, 0.9))

    def cloth(self, patterns: Sequence[str] = CLOTHS) -> Surface:
        """Cloth of any colour and one of some patterns."""
        pattern = patterns[int(self.random.integers(len(patterns)))]
        return self._draw(
            "cloth" if patterns is CLOTHS else "/".join(patterns),
            pattern,
            self._any(0.8, (0.15, 0.95)),
            0.5,
            self._between(0.2, 0.6),
        )

    def ceramic(self) -> Surface:
        """Ceramic, mostly white."""
        white = self.random.random() < 0.75
        colour = (self.random.random(), 0.05, self._between(0.75, 0.98)) if white else self._any(0.4, (0.4, 0.9))
        return replace(self._draw("ceramic", "plain", colour, 0.08, 1.0), temperature_c=17.8)

    def metal(self) -> Surface:
        """Metal or plastic, grey or black."""
        colour = (self.random.random(), 0.08, self._between(0.08, 0.75))
        return replace(self._draw("metal", "plain", colour, 0.1, 0.5, camouflage=False), infrared=0.4)

    def plastic(self) -> Surface:
        """Plastic of any colour."""
        pattern = ("plain", "plain", "mesh", "stripes")[int(self.random.integers(4))]
        return self._draw("plastic", pattern, self._any(0.8, (0.12, 0.9)), 0.35, 0.25)

    def cardboard(self) -> Surface:
        """A box's board: brown with tape, or printed."""
        colour = (self._between(0.05, 0.1), self._between(0.3, 0.55), self._between(0.45, 0.8))
        if self.random.random() < 0.3:
            colour = self._any(0.8, (0.3, 0.95))
        return self._draw("cardboard", "cardboard", colour, 0.35, 0.0, camouflage=False)

    def fronts(self, pattern: str, like: Surface) -> Surface:
        """The front of a cupboard of some material: joints and handles of another brightness."""
        factor = 0.25 if max(like.first) > 0.12 else 3.5
        second = tuple(min(1.0, factor * channel + 0.02) for channel in like.first)
        return replace(like, pattern=INDEX[pattern], second=(second[0], second[1], second[2]), tile_m=0.0)

    def picture(self, pattern: str, glow: float = 0.0, temperature_c: float = 20.0) -> Surface:
        """Something with colours of its own, stretched over its solid; a screen glows and swallows infrared."""
        infrared = 0.12 if glow else 0.5
        return Surface(INDEX[pattern], (0, 0, 0), (1, 1, 1), 0.0, temperature_c, glow, infrared)

    def dark(self, value: float = 0.12) -> Surface:
        """Something black or nearly so."""
        return Surface(INDEX["plain"], linear(0.6, 0.1, value), linear(0.6, 0.1, value + 0.1), 1.0, 20.5, 0.0, 0.06)

    def _draw(
        self, material: str, pattern: str, hsv: Colour, contrast: float, tile_m: float, camouflage: bool = True
    ) -> Surface:
        """A surface of a material: new, or like something else in the room."""
        chance = self.random.random()
        before = self.seen.setdefault(material, [])
        if camouflage and chance < CAMOUFLAGED:
            return replace(self.wall, temperature_c=self._between(*WARMTH_C))
        if before and chance < CAMOUFLAGED + SHARED:
            return before[int(self.random.integers(len(before)))]
        first = linear(*hsv)
        away = contrast if hsv[2] < 0.5 else -contrast
        other = hsv[0] + (self._between(-0.3, 0.3) if pattern in CLOTHS or material == "plastic" else 0.0)
        second = linear(other, hsv[1], min(1.0, max(0.03, hsv[2] + away)))
        surface = Surface(
            INDEX[pattern], first, second, tile_m, self._between(*WARMTH_C), 0.0, self._between(0.35, 0.8)
        )
        before.append(surface)
        return surface

    def _any(self, saturation: float, value: tuple[float, float]) -> Colour:
        """Hue, saturation and value of any hue."""
        return (self.random.random(), self._between(0.05, saturation), self._between(*value))

    def _between(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))


def room_surfaces(random: np.random.Generator) -> tuple[Surface, Surface, Surface]:
    """Wall, floor and ceiling of a room."""
    hue = random.random()
    value = random.uniform(0.5, 0.95)
    wall_pattern = ("plain", "plaster", "plaster", "stripes", "flowers", "tiles", "bricks")[int(random.integers(7))]
    saturation = random.uniform(0.02, 0.38) ** 1.3
    first = linear(hue, saturation, value)
    second = linear(hue + random.uniform(-0.1, 0.1), saturation, value * random.uniform(0.75, 0.92))
    wall = Surface(INDEX[wall_pattern], first, second, float(random.uniform(0.8, 1.6)), 18.8)
    floor_pattern = ("planks", "planks", "tiles", "carpet", "carpet", "checks")[int(random.integers(6))]
    wooden = floor_pattern == "planks"
    hue = random.uniform(0.04, 0.11) if wooden else random.random()
    value = random.uniform(0.25, 0.8)
    first = linear(hue, random.uniform(0.3, 0.6) if wooden else random.uniform(0.0, 0.5), value)
    second = linear(hue, random.uniform(0.1, 0.5), value * random.uniform(0.5, 0.85))
    floor = Surface(INDEX[floor_pattern], first, second, float(random.uniform(0.9, 1.6)), 18.2)
    ceiling = Surface(INDEX["plain"], linear(hue, 0.03, 0.95), linear(hue, 0.03, 0.88), 1.5, 20.5)
    return wall, floor, ceiling
