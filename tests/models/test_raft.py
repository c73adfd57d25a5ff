"""What RAFT promises: the weights of its authors load whole, frames of any size pass, and the flow is right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large, raft_small

from xmodal_cli.datasets.rooms.camera import flow_between, kinect, rays
from xmodal_cli.datasets.rooms.frames import RoomRecipe, render_room
from xmodal_cli.datasets.rooms.sensor import colour, edges_of
from xmodal_cli.datasets.rooms.shading import shade
from xmodal_cli.datasets.rooms.trace import trace
from xmodal_cli.errors import DataError
from xmodal_cli.models.raft import converted, estimate, load_raft

CPU = torch.device("cpu")


def as_its_authors(state: dict[str, torch.Tensor], *, large: bool) -> dict[str, torch.Tensor]:
    """Weights in the layout of the authors' code: their names, the prefix of DataParallel, shortcuts' norms twice."""
    found = {}
    for key, tensor in state.items():
        name = key.replace("feature_encoder", "fnet").replace("context_encoder", "cnet")
        name = re.sub(r"^([fc]net)\.convnormrelu\.0", r"\1.conv1", name)
        name = re.sub(r"^([fc]net)\.convnormrelu\.1", r"\1.norm1", name)
        name = re.sub(r"^([fc]net)\.conv\.", r"\1.conv2.", name)
        name = re.sub(r"convnormrelu(\d)\.0", r"conv\1", name)
        name = re.sub(r"convnormrelu(\d)\.1", r"norm\1", name)
        name = re.sub(r"motion_encoder\.conv(corr|flow)(\d)\.0", lambda m: f"encoder.conv{m[1][0]}{m[2]}", name)
        name = name.replace("motion_encoder.conv.0", "encoder.conv")
        gate = r"gru.conv\2\1" if large else r"gru.conv\2"
        name = re.sub(r"recurrent_block\.convgru(\d)\.conv([zrq])", gate, name)
        name = name.replace("mask_predictor.convrelu.0", "update_block.mask.0")
        name = name.replace("mask_predictor.conv", "update_block.mask.2")
        found[f"module.{name}"] = tensor
        if "downsample.1" in name:
            found[f"module.{name.replace('downsample.1', 'norm3')}"] = tensor
    return found


@pytest.mark.parametrize(("make", "large"), [(raft_small, False), (raft_large, True)])
def test_the_authors_layout_loads_whole_and_is_told_apart_by_itself(make, large, tmp_path):
    network = make()
    theirs = as_its_authors(network.state_dict(), large=large)
    assert not {key.removeprefix("module.") for key in theirs} <= network.state_dict().keys()
    torch.save(theirs, tmp_path / "raft.pth")
    loaded = load_raft(tmp_path / "raft.pth", CPU).state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in network.state_dict().items())


def test_torchvisions_layout_stays_as_it_is():
    state = raft_small().state_dict()
    assert converted(state).keys() == state.keys()


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="no weights of RAFT"):
        load_raft(tmp_path / "other.pth", CPU)


def test_frames_of_odd_size_pass_and_a_pair_gets_the_same_flow_in_any_company(tmp_path):
    torch.manual_seed(0)
    network = raft_small().eval()
    random = np.random.default_rng(0)
    pairs = [tuple(random.integers(0, 256, (2, 45, 131, 3), np.uint8)) for _ in range(2)]
    together = estimate(network, pairs)
    assert [flow_px.shape for flow_px in together] == [(45, 131, 2)] * 2
    assert np.allclose(together[1], estimate(network, pairs[1:])[0], atol=1e-3)


@pytest.mark.real
def test_the_published_weights_find_most_of_the_exact_flow_of_rooms(real_data):
    recipe, camera = RoomRecipe(Path("unused"), 0, 1, (240, 320), ()), kinect(320, 240)
    pairs, truths = [], []
    for number in range(4):
        frame = next(render_room(recipe, number))
        found = trace(frame.model, frame.following, camera, (240, 320))
        shading = shade(frame.model, found, frame.following, camera)
        view = rays(camera, (240, 320))
        truths.append(flow_between(frame.found.depth_m, frame.pose, frame.following, camera, view))
        seen = (frame.shading, frame.found), (shading, found)
        first, second = (colour(each, edges_of(trace_), frame.random) for each, trace_ in seen)
        pairs.append((first, second))
    found_px = estimate(load_raft(real_data / "weights/raft-small.pth", CPU), pairs)
    errors = np.linalg.norm(np.stack(found_px) - truths, axis=-1)
    lengths = np.linalg.norm(truths, axis=-1)
    assert errors.mean() < 0.3 * lengths.mean()
    assert np.median(errors) < 0.4
