"""The authors' superpixels (`nyud2_sp.tgz`): 16-bit PNG with numbers from 1, linked into `superpixels/`.

Instance segmentation of the paper projects masks onto them (recipe 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.datasets.frames import Link, link_file
from xmodal_cli.datasets.nyud2.camera import CROP_SIZE_HW
from xmodal_cli.errors import DataError

FOLDER = "superpixels"


def find_superpixels(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """The file of every image, in the folder or in one below it, as an unpacked archive may have them.

    Raises:
        DataError: images have none.
    """
    first = f"{ids[0]}.png"
    if not (folder / first).is_file():
        folder = min((path.parent for path in folder.rglob(first)), default=folder)
    found = {identifier: folder / f"{identifier}.png" for identifier in ids}
    absent = [identifier for identifier, path in found.items() if not path.is_file()]
    if absent:
        more = ", ..." if len(absent) > 3 else ""
        raise DataError(
            f"'{folder}' lacks the superpixels of {len(absent)} of {len(ids)} images: {', '.join(absent[:3])}{more}.",
            "Unpack nyud2_sp.tgz and name the folder that holds img_5001.png with --superpixels.",
        )
    return found


def add_superpixels(root: Path, found: dict[str, Path], how: Link) -> int:
    """Check every file and link it into the data set, unless the same bytes lie there.

    Returns:
        How many were linked now.

    Raises:
        DataError: a file is damaged, of another size, or holds no superpixels; nothing is linked then.
    """
    contents = {identifier: _checked(path) for identifier, path in found.items()}
    files.remove_parts(root / FOLDER)
    linked = 0
    for identifier, size in contents.items():
        destination = root / FOLDER / f"{identifier}.png"
        same = destination.is_file() and destination.stat().st_size == size
        if not same or destination.read_bytes() != found[identifier].read_bytes():
            link_file(found[identifier], destination, how)
            linked += 1
    return linked


def _checked(path: Path) -> int:
    """The size of a file of superpixels, bytes."""
    content = images.read_bytes(path)
    image = images.decode_raw(content, path)
    if image.shape != CROP_SIZE_HW or image.dtype.kind != "u":
        height, width = CROP_SIZE_HW
        raise DataError(f"'{path}' holds {images.describe(image)}; expected {height} x {width} uint16.")
    if image.min() < 1:
        raise DataError(f"'{path}' has superpixel 0; they are numbered from 1.", "Unpack nyud2_sp.tgz again.")
    return len(content)
