"""Published weights from a server on this machine: hashes, redirects, damage, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from web_server import Server, serving

from xmodal_cli.errors import DownloadError, SettingsError
from xmodal_cli.models.backbones import build
from xmodal_cli.models.downloads import Published, cache_folder, fetch_url, published

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.ranges = False
        yield running


def test_a_promised_prefix_is_checked_and_the_whole_hash_pinned(server: Server, tmp_path: Path) -> None:
    server.files["/net-1234.pth"] = CONTENT
    path = fetch_url(Published(f"{server.url}/net-1234.pth", "t", SHA256[:8]), tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.with_name("net-1234.pth.sha256").read_text().strip() == SHA256


def test_size_is_told_before_the_first_byte_and_progress_after(server: Server, tmp_path: Path) -> None:
    server.files["/a.pth"] = CONTENT
    told: list[tuple[str, int, int]] = []

    def watch(url: str, done: int, total: int) -> None:
        if not told:
            assert server.fetched == []
        told.append((url, done, total))

    fetch_url(Published(f"{server.url}/a.pth", "t"), tmp_path, watch)
    assert told[0] == (f"{server.url}/a.pth", 0, len(CONTENT))
    assert told[-1][1:] == (len(CONTENT), len(CONTENT))


def test_another_hash_than_promised_is_refused_and_nothing_kept(server: Server, tmp_path: Path) -> None:
    server.files["/a.pth"] = CONTENT
    with pytest.raises(DownloadError, match="promised was 00000000") as caught:
        fetch_url(Published(f"{server.url}/a.pth", "t", "00000000"), tmp_path)
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_the_hubs_own_header_promises_hash_and_size_before_it_redirects(server: Server, tmp_path: Path) -> None:
    server.redirects["/timm/net/resolve/main/model.safetensors"] = "/storage"
    server.files["/storage"] = CONTENT
    headers = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(CONTENT)), "ETag": '"other"'}
    server.headers["/timm/net/resolve/main/model.safetensors"] = headers
    weights = Published(f"{server.url}/timm/net/resolve/main/model.safetensors", "t")
    sizes: list[int] = []
    assert fetch_url(weights, tmp_path, lambda url, done, total: sizes.append(total)).read_bytes() == CONTENT
    assert sizes[0] == len(CONTENT)
    headers["X-Linked-ETag"] = '"' + "0" * 64 + '"'
    with pytest.raises(DownloadError, match="promised was 0000"):
        fetch_url(weights, tmp_path / "again")


def test_a_file_that_is_here_is_not_fetched_again_even_without_network(server: Server, tmp_path: Path) -> None:
    server.files["/a.pth"] = CONTENT
    weights = Published(f"{server.url}/a.pth", "t", SHA256[:8])
    fetch_url(weights, tmp_path)
    server.files.clear()
    assert fetch_url(weights, tmp_path).read_bytes() == CONTENT
    assert server.fetched == ["/a.pth"]


def test_a_file_damaged_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.files["/a.pth"] = CONTENT
    weights = Published(f"{server.url}/a.pth", "t", SHA256[:8])
    fetch_url(weights, tmp_path).write_bytes(b"damaged")
    assert fetch_url(weights, tmp_path).read_bytes() == CONTENT


def test_no_network_names_the_url_and_the_option_for_a_file(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/vgg16.pth"  # nothing listens on port 1
    with pytest.raises(DownloadError) as caught:
        fetch_url(Published(url, "t"), tmp_path / "folder")
    assert caught.value.exit_code == 4
    assert url in caught.value.message
    assert url in str(caught.value.hint)
    assert "--teacher-weights FILE" in str(caught.value.hint)
    assert not (tmp_path / "folder").exists()


def test_an_absent_file_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answered 404"):
        fetch_url(Published(f"{server.url}/gone.pth", "t"), tmp_path)


def test_a_truncated_file_with_another_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/a.pth"] = CONTENT[:1000]
    server.headers["/a.pth"] = {"X-Linked-ETag": f'"{SHA256}"'}
    with pytest.raises(DownloadError):
        fetch_url(Published(f"{server.url}/a.pth", "t"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_transfer_leaves_no_weights_and_the_next_one_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmodal_cli.web.fetch.WAIT_S", 0.001)
    server.ranges = True
    server.files["/a.pth"] = CONTENT
    server.stops["/a.pth"] = [65_536, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="stopped") as caught:
        fetch_url(Published(f"{server.url}/a.pth", "t"), tmp_path)
    assert "65,536 bytes are kept" in str(caught.value.hint)
    assert not (tmp_path / "a.pth").exists()
    server.stops.clear()
    assert fetch_url(Published(f"{server.url}/a.pth", "t"), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=65536-"


def test_torchvision_promises_eight_digits_in_the_name() -> None:
    weights = published("vgg16")
    assert weights.tag == "torchvision:IMAGENET1K_V1"
    assert weights.url.endswith(f"vgg16-{weights.hash_prefix}.pth")
    assert len(weights.hash_prefix) == 8


@pytest.mark.parametrize(
    ("name", "tag"),
    [("resnet18", "a1_in1k"), ("vit_small_patch14_dinov2", "lvd142m"), ("vit_small_patch16_dinov3", "lvd1689m")],
)
def test_timm_weights_come_from_the_hub(name: str, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    weights = published(name)
    assert weights.tag == f"timm:{tag}"
    assert weights.url == f"https://mirror.example/timm/{name}.{tag}/resolve/main/model.safetensors"


def test_networks_without_published_weights_say_so() -> None:
    with pytest.raises(SettingsError, match="No pretrained weights of caffenet"):
        published("caffenet")


def test_cache_lies_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XMODAL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "weights"


def test_pretrained_timm_network_is_built_from_the_hubs_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    state = build("mobilenetv3_small_050", seed=7).module.state_dict()
    path = "/timm/mobilenetv3_small_050.lamb_in1k/resolve/main/model.safetensors"
    server.files[path] = safetensors.torch.save(state)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("XMODAL_CACHE", str(tmp_path))
    backbone = build("mobilenetv3_small_050", weights="imagenet", in_channels=1)
    assert backbone.weights == "timm:lamb_in1k"
    found = backbone.module.state_dict()
    assert torch.equal(found["classifier.weight"], state["classifier.weight"])
    torch.testing.assert_close(found["conv_stem.weight"], state["conv_stem.weight"].sum(1, keepdim=True))
