"""Promises of checkpoints: whole or not at all, tensors only, and never run."""

from __future__ import annotations

import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from xmodal_cli.errors import DataError
from xmodal_cli.runs import checkpoint


class Malicious:
    """Unpickling this would run a shell command."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.touched}",)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process cannot grow beyond 200 kB: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    state = {"step": 3, "module": {"w": torch.randn(3)}, "metrics": {"loss": 0.5}, "list": [1, (2, "a")]}
    checkpoint.save(tmp_path, state)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert torch.equal(found["module"]["w"], state["module"]["w"])  # type: ignore[index]
    assert (found["step"], found["metrics"], found["list"]) == (3, {"loss": 0.5}, [1, (2, "a")])
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LAST]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None


@pytest.mark.parametrize("as_archive", [True, False])
def test_checkpoint_that_holds_code_is_refused_and_never_run(as_archive: bool, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    content = {"format": 1, "step": Malicious(touched)}
    if as_archive:
        torch.save(content, tmp_path / checkpoint.LAST)
    else:
        (tmp_path / checkpoint.LAST).write_bytes(pickle.dumps(content))
    with pytest.raises(DataError):
        checkpoint.load(tmp_path)
    assert not touched.exists()


def garbage() -> dict[str, bytes]:
    random = torch.Generator().manual_seed(0)
    noise = bytes(torch.randint(0, 256, (5000,), generator=random, dtype=torch.uint8).tolist())
    return {
        "empty": b"",
        "text": b"not a checkpoint",
        "noise": noise,
        "zip": b"PK\x03\x04" + noise,
        "pickle": b"\x80\x02" + noise,
    }


@pytest.mark.parametrize("kind", garbage())
def test_garbage_is_bad_data(kind: str, tmp_path: Path) -> None:
    (tmp_path / checkpoint.LAST).write_bytes(garbage()[kind])
    with pytest.raises(DataError):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_checkpoint_is_bad_data(share: float, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {"w": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("content", [torch.zeros(2), {"format": 99}, {"module": {}}, [1, 2]])
def test_other_files_of_tensors_are_no_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / checkpoint.LAST)
    with pytest.raises(DataError, match="not a checkpoint"):
        checkpoint.load(tmp_path)


def test_foreign_archive_is_bad_data(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / checkpoint.LAST, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError):
        checkpoint.load(tmp_path)


@pytest.mark.usefixtures("small_files")
def test_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": 1})
    with pytest.raises(OSError, match="File too large"):
        checkpoint.save(tmp_path, {"step": 2, "w": torch.zeros(1_000_000)})
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LAST]
