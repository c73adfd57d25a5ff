"""Scenes with known geometry, the authors' frame, and the direct version of HHA to compare with."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from xmodal_cli.modalities.depth import to_metres
from xmodal_cli.modalities.geometry import Camera

NYU_CAMERA = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)


@dataclass(frozen=True)
class GoldenFrame:
    """The NYU frame that the authors' MATLAB output is known for."""

    depth_m: NDArray[np.float64]
    missing: NDArray[np.bool_]
    matlab_hha: NDArray[np.uint8]
    camera: Camera = NYU_CAMERA


@pytest.fixture(scope="session")
def golden(real_data: Path) -> GoldenFrame:
    depth, raw, hha = (
        cv2.imread(str(real_data / "hha-golden" / name), cv2.IMREAD_UNCHANGED)
        for name in ("depth.png", "raw_depth.png", "matlab_hha.png")
    )
    return GoldenFrame(to_metres(depth, unit=0.0001), raw == 0, hha[..., ::-1])


@pytest.fixture(scope="session")
def direct() -> ModuleType:
    """`benchmarks/hha.py`: HHA by direct convolution, sharing no code with the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "hha.py"
    spec = importlib.util.spec_from_file_location("direct_hha", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
