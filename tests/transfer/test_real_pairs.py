"""The whole way on real pairs: a real ImageNet teacher, a real depth camera, and features that can be predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from xmodal_cli.datasets.folder.prepare import prepare_folder
from xmodal_cli.datasets.folder.settings import FolderSettings
from xmodal_cli.transfer.distill import distill
from xmodal_cli.transfer.settings import DistillSettings

PAIRS_PER_SEQUENCE = 30


@pytest.mark.real
def test_a_short_transfer_on_real_pairs_explains_held_out_features(real_data: Path, tmp_path: Path) -> None:
    kinect = real_data / "kinect"
    for name in sorted(kinect.glob("*.color.jpg"))[:PAIRS_PER_SEQUENCE]:
        for ending in ("color.jpg", "depth.png"):
            (tmp_path / name.name.replace("color.jpg", ending)).symlink_to(
                name.with_name(name.name.replace("color.jpg", ending))
            )
    data = tmp_path / "data"
    prepare_folder(
        FolderSettings(
            out=data,
            modalities=("disparity",),
            rgb=f"{tmp_path}/*.color.jpg",
            target=f"{tmp_path}/*.depth.png",
            depth_unit=0.001,
        )
    )
    settings = DistillSettings(
        data=str(data),
        teacher="squeezenet1_1",
        teacher_weights=str(real_data / "weights" / "squeezenet1_1-imagenet.pth"),
        student="squeezenet1_1",
        modality="disparity",
        size="112",
        iterations=60,
        threads=1,
    )
    result = distill(settings, runs=tmp_path / "runs")
    assert result.explained_variance is not None
    assert result.explained_variance > 0.02
    assert load_file(result.run / "student.safetensors")["features.0.weight"].shape == (64, 3, 3, 3)
