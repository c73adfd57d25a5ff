"""RAFT, a network that estimates optical flow (Teed and Deng, ECCV 2020), as torchvision has it.

Weights are torchvision's, fetched or from a file, or a file in the layout of the authors' code, whose keys are renamed.
Large and small nets are told apart by what a file holds. Frames are padded at their right and lower edge to what the
network takes, and the flow is cut back.

Shapes: B pairs; frames are `(H, W, 3)` uint8 R, G, B; flow is `(H, W, 2)` float32, pixels to the right and downward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.errors import DataError
from xmodal_cli.models.downloads import Published, cache_folder, fetch_url
from xmodal_cli.models.weights import load_file
from xmodal_cli.web.fetch import Watcher, unwatched

SMALL, LARGE = "raft_small", "raft_large"
MULTIPLE = 8  # of a side in pixels: the network works at an eighth of the size
SMALLEST = 128  # of a side in pixels: below it the coarsest of its four levels has no 2 x 2 cells
UPDATES = 12  # steps of refinement: torchvision's default
BATCH = 8  # pairs at once

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]

# What the authors' code calls its parts, and what torchvision calls them, in the order of renaming.
RENAMED = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"^(\w+_encoder\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"^(\w+_encoder\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.conv([cf]\d)\.", r"update_block.motion_encoder.conv\1.0."),
    (r"\.convc(\d)\.", r".convcorr\1."),
    (r"\.convf(\d)\.", r".convflow\1."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])1\.", r"update_block.recurrent_block.convgru1.conv\1."),
    (r"^update_block\.gru\.conv([zrq])2\.", r"update_block.recurrent_block.convgru2.conv\1."),
    (r"^update_block\.gru\.conv([zrq])\.", r"update_block.recurrent_block.convgru1.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
REPEATED = re.compile(r"\.layer\d\.\d\.norm[34]\.")  # the norm of a shortcut, which stands there twice


def load_raft(weights: Path | None, device: torch.device, watch: Watcher = unwatched) -> nn.Module:
    """RAFT with weights, ready to estimate.

    Args:
        weights: a file in torchvision's or in the authors' layout; None fetches torchvision's large network (21 MB).
        device: to compute on.
        watch: told of a download.

    Raises:
        DataError: the file is damaged or holds something else.
        DownloadError: the weights cannot be fetched.
    """
    from torchvision.models import optical_flow

    path = fetch_url(published(), cache_folder() / "torchvision" / LARGE, watch) if weights is None else weights
    state = converted(load_file(path))
    name = LARGE if any(key.startswith("mask_predictor.") for key in state) else SMALL
    network: nn.Module = getattr(optical_flow, name)()
    own = network.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        raise DataError(
            f"'{path}' holds no weights of RAFT: {len(wrong)} of {len(own)} tensors do not fit, such as {wrong[0]}.",
            "Use torchvision's weights of raft_small or raft_large, or those of RAFT's authors.",
        )
    network.load_state_dict(state, strict=True)
    return network.eval().to(device)


def published() -> Published:
    """The weights that torchvision names as the default of its large network."""
    from torchvision.models.optical_flow import Raft_Large_Weights

    chosen = Raft_Large_Weights.DEFAULT
    promised = re.search(r"-([0-9a-f]{8})\.pth$", chosen.url)
    return Published(chosen.url, f"torchvision:{chosen.name}", promised[1] if promised else "")


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in torchvision's layout, of weights in that or in the authors' layout.

    Example:
        >>> list(converted({"fnet.layer2.0.conv1.weight": torch.zeros(1)}))
        ['feature_encoder.layer2.0.convnormrelu1.0.weight']
    """
    if not any(key.startswith(("fnet.", "cnet.")) for key in state):
        return dict(state)
    found = {}
    for key, tensor in state.items():
        if REPEATED.search(key) and key.replace("norm3", "downsample.1").replace("norm4", "downsample.1") in state:
            continue
        for old, new in RENAMED:
            key = re.sub(old, new, key)
        found[key] = tensor
    return found


@torch.inference_mode()
def estimate(network: nn.Module, pairs: Sequence[tuple[Image, Image]]) -> list[Flow]:
    """Flow between the two frames of each pair, all of one size.

    Args:
        network: as `load_raft` gives it.
        pairs: B frames and those that follow them, `(H, W, 3)` each.

    Returns:
        B flows, `(H, W, 2)`.
    """
    device = next(network.parameters()).device
    height, width = pairs[0][0].shape[:2]
    images, following = (_batch([pair[side] for pair in pairs]).to(device) for side in (0, 1))  # (B, 3, H', W')
    with torch.autocast(device.type, enabled=False):
        flow: Tensor = network(images, following, num_flow_updates=UPDATES)[-1]  # (B, 2, H', W')
    cut: Any = flow[:, :, :height, :width].permute(0, 2, 3, 1).float().cpu().numpy()
    return list(np.ascontiguousarray(cut))


def _batch(frames: Sequence[Image]) -> Tensor:
    """Frames as the network takes them: -1 to 1, padded with their edges."""
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W)
    height, width = stacked.shape[-2:]
    down, right = (max(SMALLEST, -(-side // MULTIPLE) * MULTIPLE) - side for side in (height, width))
    return functional.pad(stacked, (0, right, 0, down), mode="replicate")
