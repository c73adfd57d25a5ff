"""What motion saliency promises: the authors' rule, box by box, and proposals that follow it."""

from __future__ import annotations

import numpy as np
import pytest
from made_videos import write_moving_video
from videos_with_flow import with_flow

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.detect.motion import filtered, moving, salient
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals, propose_for
from xmodal_cli.errors import SettingsError
from xmodal_cli.metrics.recall import grid_windows

MOST = 60


def by_the_recipe(flow_image: np.ndarray, boxes_xyxy: np.ndarray) -> list[bool]:
    """Recipe section 7, pixel by pixel."""
    f = (flow_image[..., 2].astype(float) - 128) / 128
    padded = np.pad(f, 2)
    height, width = f.shape
    mean = np.array([[padded[y : y + 5, x : x + 5].mean() for x in range(width)] for y in range(height)])
    saliency = mean * f / f.max()
    binary = saliency >= min(0.2, 0.7 * saliency.max())
    kept = []
    for x1, y1, x2, y2 in boxes_xyxy.astype(int):
        kept.append(bool(binary[y1:y2, x1:x2].sum() / binary.sum() >= 0.3))
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_kept_exactly_by_the_published_rule(seed):
    random = np.random.default_rng(seed)
    image = np.full((24, 30, 3), 128, np.uint8)
    image[4:15, 6:18, 2] = random.integers(128, 256, (11, 12))
    image[..., 2] += random.integers(0, 1 + 5 * seed // 2, (24, 30)).clip(max=255 - image[..., 2]).astype(np.uint8)
    starts = random.integers(0, 15, (80, 2))
    boxes = np.hstack([starts, starts + random.integers(3, 15, (80, 2))]).astype(np.float32)
    kept = by_the_recipe(image, boxes)
    assert 0 < sum(kept) < len(kept)
    assert moving(boxes, salient(image)).tolist() == kept


def test_where_nothing_moves_every_box_is_kept():
    boxes = grid_windows((24, 30), 10)
    assert len(filtered(boxes, np.full((24, 30, 3), 128, np.uint8))) == len(boxes)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    folder = tmp_path_factory.mktemp("motion")
    write_moving_video(folder / "videos/a.avi", 4)
    return with_flow(folder / "videos", folder / "data")


def test_proposals_hold_motion_and_can_be_made_for_a_new_image(data):
    report = prepare_proposals(data, ProposalSettings("grid", most=MOST, motion_saliency=True))
    stored = open_proposals(data, "grid-motion")
    left_out = report.counts["boxes_without_motion"]
    assert 0 < left_out < MOST * len(data.all_ids)
    assert left_out + report.counts["boxes"] == sum(
        len(grid_windows(data.size_hw(each), MOST)) for each in data.all_ids
    )
    identifier = data.all_ids[0]
    seen = {name: data.read(name, identifier) for name in ("rgb", "flow")}
    assert np.array_equal(propose_for(stored.description, seen), stored[identifier])
    with pytest.raises(SettingsError, match="no flow image"):
        propose_for(stored.description, {"rgb": seen["rgb"]})


def test_a_data_set_without_flow_is_refused(tiny_data):
    with pytest.raises(SettingsError, match="looks at flow") as caught:
        prepare_proposals(tiny_data, ProposalSettings("grid", motion_saliency=True, dry_run=True))
    assert "--modality flow" in str(caught.value.hint)
