"""The registry of networks, and which one `auto` means."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from streamwatch.embedding import choose, known
from streamwatch.embedding.architectures import needed
from streamwatch.embedding.choose import choose_network
from streamwatch.embedding.networks import NETWORKS, network
from streamwatch.embedding.weights import file_sha256
from streamwatch.errors import UnknownLayer, UnknownNetwork, UsageError, WeightsHashMismatch, WeightsInvalid


def test_importing_the_registry_and_the_protocol_loads_no_torch() -> None:
    # Given a fresh interpreter that imports what the command line imports
    program = (
        "import sys, streamwatch, streamwatch.embedding, streamwatch.embedding.networks, streamwatch.embedding.choose\n"
        "import streamwatch.embedding.weights\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'av', 'safetensors', 'rich') if name in sys.modules])"
    )
    # When it runs
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Then none of the heavy libraries is loaded
    assert done.stdout.strip() == "[]"


def test_asking_whether_auto_is_the_embedded_network_loads_no_torch_when_the_device_is_the_cpu(tmp_path: Path) -> None:
    # Given empty caches
    program = (
        "import sys; from streamwatch.embedding.choose import choose_network\n"
        "print(choose_network(device='cpu').network, 'torch' in sys.modules)"
    )
    environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    # When the network is chosen
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    # Then it is the embedded one, at little cost
    assert done.stdout.split() == ["lite0", "False"]


@pytest.mark.parametrize("net", NETWORKS.values(), ids=lambda net: net.name)
def test_every_network_has_its_default_layer_with_a_threshold_or_none_and_known_weights(
    net: known.KnownWeights,
) -> None:
    # Given a network of the registry
    found = network(net.name)
    # Then its default layer is one of its layers, and each name of weights leads to a record
    assert found.layer() is found.layers[found.default_layer]
    assert found.layer().grid.regions == (196 if found.weights else 1)  # CNN-M's is the paper's own fc7
    assert [known.known_weights(found.name, name) for name in found.weights] == [
        record for record in known.KNOWN if record.network == found.name
    ]


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNetwork, match=r"no network 'vgg-16' \(did you mean 'vgg16'\?\); known are vgg16, vgg19"):
        network("vgg-16")


def test_an_unknown_layer_is_refused_with_the_nearest_name_and_the_list() -> None:
    with pytest.raises(
        UnknownLayer, match=r"VGG16 has no layer 'conv43' \(did you mean 'conv4_3'\?\); it has conv4_3,"
    ):
        network("vgg16").layer("conv43")


def test_a_layer_of_vgg19_alone_is_refused_for_vgg16() -> None:
    assert network("vgg19").layer("conv5_4").dimensions == 512
    with pytest.raises(UnknownLayer, match="conv5_4"):
        network("vgg16").layer("conv5_4")


def test_auto_is_the_embedded_network_where_nothing_else_is_at_hand(tmp_path: Path) -> None:
    # Given no cached weights, no CUDA device
    choice = choose_network(device="cpu", cache=tmp_path, hub=tmp_path)
    # Then the embedded network is chosen, and one line says why
    assert (choice.network, choice.weights) == ("lite0", None)
    assert "not in the cache" in choice.reason
    assert "\n" not in choice.reason


def test_auto_is_vgg16_where_its_weights_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a cache with a file of the name and hash that is expected of VGG16's weights
    file = tmp_path / "vgg16-397923af.pth"
    file.write_bytes(b"the right bytes")
    record = replace(known.KNOWN[0], sha256=file_sha256(file)[:8])
    monkeypatch.setattr(choose, "known_weights", lambda *_: record)
    # When the network is chosen, then it is VGG16, from either folder
    assert choose_network(device="cpu", cache=tmp_path, hub=tmp_path / "none").network == "vgg16"
    assert choose_network(device="cpu", cache=tmp_path / "none", hub=tmp_path).network == "vgg16"


def test_a_damaged_file_in_the_own_cache_is_reported_and_one_in_torch_hubs_passed_over(tmp_path: Path) -> None:
    # Given a file of the right name and wrong bytes
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"cut off")
    # When it lies in our cache, then it is refused: `auto` must not become another network unseen
    with pytest.raises(WeightsHashMismatch, match="beginning with 397923af"):
        choose_network(device="cpu", cache=tmp_path, hub=tmp_path)
    # When it lies in somebody else's, then it does not count
    assert choose_network(device="cpu", cache=tmp_path / "none", hub=tmp_path).network == "lite0"


def test_auto_is_vgg16_for_a_cuda_device_asked_for_by_name(tmp_path: Path) -> None:
    choice = choose_network(device="cuda", cache=tmp_path, hub=tmp_path)
    assert choice.network == "vgg16"
    assert "downloaded" in choice.reason


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "lite0"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_auto_knows_a_network_by_its_weights_file(name: str, suffix: str, tmp_path: Path) -> None:
    # Given a file with the tensors of a network's trunk
    path = tmp_path / f"mine{suffix}"
    tensors = {key: torch.zeros(shape) for key, shape in needed(name, network(name).default_layer).items()}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    # When the network is chosen, then it is the file's own
    choice = choose_network(weights=str(path))
    assert (choice.network, choice.weights) == (name, str(path))


def test_auto_refuses_a_file_of_no_known_network(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"layer1.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsInvalid, match="fits none of the networks vgg16, vgg19, vgg_cnn_m_2048"):
        choose_network(weights=str(path))


def test_auto_checks_the_hash_that_is_demanded_before_it_looks_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"not to be parsed")
    with pytest.raises(WeightsHashMismatch, match="not parsed"):
        choose_network(weights=f"{path}#sha256={'0' * 64}")


def test_auto_takes_the_network_from_a_name_that_only_one_network_has() -> None:
    assert choose_network(weights="VGG19_Weights.IMAGENET1K_V1").network == "vgg19"
    assert choose_network(weights="embedded").network == "lite0"
    with pytest.raises(UsageError, match="name the network too"):
        choose_network(weights="imagenet1k_v1")
