"""Files of weights: what is read, what is refused, and how plainly."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from xmodal_cli.errors import DataError
from xmodal_cli.models.weights import load_file, load_into

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}


class Malicious:
    """A pickle that would make a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_state_dicts_are_read_from_both_formats(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    assert all(same(load_file(tmp_path / name)) for name in ("a.pth", "old.pth", "a.safetensors"))


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_are_found_in_checkpoints_and_behind_wrappers(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 3, key: {f"module.{name}": tensor for name, tensor in STATE.items()}}, tmp_path / "c.pth")
    assert same(load_file(tmp_path / "c.pth"))


def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    torch.save({"weight": torch.zeros(1), "extra": Malicious(mark)}, path)
    with pytest.raises(DataError, match="holds more than tensors") as caught:
        load_file(path)
    assert not mark.exists()
    assert caught.value.exit_code == 3
    assert "safetensors" in str(caught.value.hint)


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(DataError, match="holds more than tensors"):
        load_file(tmp_path / "model.pth")


def test_plain_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(DataError):
        load_file(path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 broken archive", b"\x80\x02"])
def test_files_that_are_no_checkpoint_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\."):
        load_file(path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    for name, save in (("a.pth", torch.save), ("a.safetensors", safetensors.torch.save_file)):
        save({"weight": torch.zeros(1000)}, tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-2000])
        with pytest.raises(DataError, match=name):
            load_file(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"lr": 0.1}, {}, torch.zeros(2)])
def test_files_without_weights_say_so(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "b.pth")
    with pytest.raises(DataError, match="holds no weights"):
        load_file(tmp_path / "b.pth")


def test_everything_that_does_not_fit_is_reported_at_once_and_nothing_loaded() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(3), "2.weight": torch.ones(1)}
    with pytest.raises(DataError) as caught:
        load_into(module, state, "x.pth")
    message = caught.value.message
    assert "2 missing: 1.weight, 1.bias." in message
    assert "1 unexpected: 2.weight." in message
    assert "1 of another shape: 0.bias is 3, expected 2." in message
    assert "(1 of 4 tensors do)" in message
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


def test_long_reports_are_cut() -> None:
    with pytest.raises(DataError, match="and 14 more"):
        load_into(nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))), {}, "x.pth")


def test_allowed_keys_may_be_missing_and_keep_their_values() -> None:
    module = nn.Linear(3, 2)
    bias = module.bias.clone()
    assert load_into(module, {"weight": STATE["weight"]}, "x", allowed_missing=["bias", "elsewhere"]) == ["bias"]
    assert torch.equal(module.weight, STATE["weight"])
    assert torch.equal(module.bias, bias)


def test_allowed_keys_are_loaded_where_they_are() -> None:
    module = nn.Linear(3, 2)
    assert load_into(module, STATE, "x", allowed_missing=["bias"]) == []
    assert torch.equal(module.bias, STATE["bias"])


@pytest.mark.real
def test_real_weights_load_strictly(real_data: Path) -> None:
    from torchvision.models import squeezenet1_0, squeezenet1_1

    for network in (squeezenet1_0, squeezenet1_1):
        path = real_data / "weights" / f"{network.__name__}-imagenet.pth"
        assert load_into(network(), load_file(path), str(path)) == []
