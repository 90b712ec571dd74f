"""Weights files: named, cached, downloaded, hashed, and refused where they are not what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from streamwatch.embedding import load_embedder, preprocessing
from streamwatch.embedding.architectures import needed
from streamwatch.embedding.download import download
from streamwatch.embedding.known import KNOWN, embedded_file, known_weights
from streamwatch.embedding.networks import network
from streamwatch.embedding.reading import LoadedNetwork, load_network
from streamwatch.embedding.weights import WeightsFile, cache_folder, file_sha256, find_cached, locate, torch_hub_folder
from streamwatch.errors import (
    OutputError,
    UnknownLayer,
    UsageError,
    WeightsHashMismatch,
    WeightsInvalid,
    WeightsMissing,
)

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class FileServer:
    """A loopback web server with one file, and with the habits that are asked of it."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    status: int = 200
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""

    asked: list[dict[str, str]] = field(default_factory=list)
    base_url: str = ""


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append({name.lower(): value for name, value in self.headers.items()})
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if self.headers.get("If-Range") not in (None, state.etag):
                start = 0
            if state.status != 200:
                self.send_error(state.status)
                return
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                end = len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base_url = f"http://127.0.0.1:{http.server_address[1]}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def fetch(
    server: FileServer,
    target: Path,
    *,
    sha256: str = DIGEST[:8],
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> None:
    download(server.base_url + target.name, target, sha256=sha256, progress=progress, timeout_s=5, sleep=lambda _: None)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


# ---- downloading ----


def test_a_whole_download_arrives_and_leaves_nothing_else(server: FileServer, tmp_path: Path) -> None:
    # Given a folder that does not exist yet
    target = tmp_path / "cache" / "file.pth"
    heard: list[tuple[str, int, int | None]] = []
    # When the file is fetched
    fetch(server, target, progress=lambda *news: heard.append(news))
    # Then it is there, nothing is left over, and the progress was told to the end
    assert target.read_bytes() == CONTENT
    assert leftovers(target.parent) == {"file.pth"}
    assert heard[0] == ("file.pth", 0, len(CONTENT))
    assert heard[-1] == ("file.pth", len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_gone_on_with_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    # Given a server that breaks off twice
    server.cuts = [300_000, 200_000]
    # When the file is fetched
    fetch(server, tmp_path / "file.pth")
    # Then the later connections asked for the rest only, of the same version
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert [asked.get("range") for asked in server.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert server.asked[1]["if-range"] == '"one"'


def test_what_an_earlier_run_left_is_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    # Given a run that failed for good: every connection broke at once after the first
    server.cuts = [300_000, 0, 0, 0, 0, 0]
    with pytest.raises(WeightsMissing, match="what has come so far is kept"):
        fetch(server, tmp_path / "file.pth")
    assert "file.pth" not in leftovers(tmp_path)
    # When the next run comes to a healthy server
    server.cuts, server.asked = [], []
    fetch(server, tmp_path / "file.pth")
    # Then it fetches the rest
    assert [asked.get("range") for asked in server.asked] == ["bytes=300000-"]
    assert (tmp_path / "file.pth").read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_is_started_afresh_with(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [300_000]
    fetch(server, tmp_path / "file.pth")
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_file_that_changed_on_the_server_is_started_afresh(server: FileServer, tmp_path: Path) -> None:
    # Given the first piece of an older version
    server.content, server.etag = b"old" * 100_000, '"old"'
    server.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(WeightsMissing):
        fetch(server, tmp_path / "file.pth")
    # When the server has a new version
    server.content, server.etag, server.cuts = CONTENT, '"new"', []
    fetch(server, tmp_path / "file.pth")
    # Then nothing of the old one is in the file
    assert (tmp_path / "file.pth").read_bytes() == CONTENT


def test_a_wrong_piece_from_an_earlier_run_does_not_spoil_this_one(server: FileServer, tmp_path: Path) -> None:
    # Given a piece that no ETag vouches for and that is not the file's
    (tmp_path / "file.pth.part").write_bytes(b"x" * 1000)
    # When the file is fetched
    fetch(server, tmp_path / "file.pth")
    # Then it was fetched once more from the start
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert [asked.get("range") for asked in server.asked] == ["bytes=1000-", None]


def test_a_whole_piece_from_an_earlier_run_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file.pth.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "file.pth")
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_of_the_wrong_hash_is_removed_and_never_becomes_the_target(server: FileServer, tmp_path: Path) -> None:
    # Given a server whose file is not the one expected
    with pytest.raises(WeightsMissing) as raised:
        fetch(server, tmp_path / "file.pth", sha256="00000000")
    # Then nothing of it stays, and the message says what to do
    assert leftovers(tmp_path) == set()
    assert f"SHA-256 {DIGEST}, expected one beginning with 00000000" in str(raised.value)
    assert f"bring the file file.pth (its SHA-256 begins with 00000000) and put it into {tmp_path}" in str(raised.value)


def test_a_missing_file_on_the_server_names_url_file_and_folder(server: FileServer, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(WeightsMissing) as raised:
        locate(network("vgg16"), cache=tmp_path, hub=tmp_path, base_url=server.base_url, progress=lambda *_: None)
    assert f"{server.base_url}vgg16-397923af.pth answered 404" in str(raised.value)
    assert "bring the file vgg16-397923af.pth" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_and_given_up_in_the_end(server: FileServer, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(WeightsMissing, match="answered 503"):
        fetch(server, tmp_path / "file.pth")
    assert len(server.asked) == 4


def test_a_refused_connection_is_one_clear_message(tmp_path: Path) -> None:
    # Given a port that nobody listens on
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file.pth"
    # When the file is asked for
    with pytest.raises(WeightsMissing, match=r"could not be downloaded: .*refused"):
        download(url, tmp_path / "file.pth", sha256=DIGEST, progress=lambda *_: None, sleep=lambda _: None)


def test_a_silent_server_is_left_after_the_timeout(tmp_path: Path) -> None:
    # Given a server that takes the connection and says nothing
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file.pth"
        with pytest.raises(WeightsMissing, match="timed out"):
            download(
                url, tmp_path / "f.pth", sha256=DIGEST, progress=lambda *_: None, timeout_s=0.1, sleep=lambda _: None
            )


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/file.pth", "file.pth"])
def test_only_web_addresses_are_downloaded_from(url: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="no http or https address"):
        download(url, tmp_path / "file.pth", sha256=DIGEST)


def test_a_cache_folder_that_cannot_be_made_is_an_output_error(server: FileServer, tmp_path: Path) -> None:
    # Given a file where the folder should be
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot be written to .*cache"):
        fetch(server, tmp_path / "cache" / "file.pth")
    assert server.asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_folder_without_write_permission_is_an_output_error(server: FileServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        fetch(server, tmp_path / "file.pth")


def test_two_downloads_at_once_fetch_the_file_once(server: FileServer, tmp_path: Path) -> None:
    # Given four that want the same file; flock tells file descriptors apart, so threads stand for processes
    threads = [threading.Thread(target=fetch, args=(server, tmp_path / "file.pth")) for _ in range(4)]
    # When they start together
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then one has fetched it, and all the others saw so
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_known_weights_whose_bytes_are_wrong_are_never_parsed(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="expected one beginning with 397923af"):
        locate(network("vgg16"), cache=tmp_path, hub=tmp_path, base_url=server.base_url, progress=lambda *_: None)
    assert leftovers(tmp_path) == set()


# ---- naming and caching ----


def test_cache_folders_follow_the_users_environment() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/streamwatch/weights")
    assert cache_folder({}) == Path.home() / ".cache/streamwatch/weights"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == cache_folder({})
    assert torch_hub_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/torch/hub/checkpoints")
    assert torch_hub_folder({"TORCH_HOME": "/t"}) == Path("/t/hub/checkpoints")


def test_torchvisions_names_files_and_pixels_are_its_own() -> None:
    # Given torchvision's enumerations
    from torchvision.models import VGG16_Weights, VGG19_Weights

    for weights in (*VGG16_Weights, *VGG19_Weights):
        # When the long form is looked up
        known = known_weights(type(weights).__name__.split("_")[0].lower(), str(weights))
        # Then file and preprocessing are what torchvision says
        assert known is not None
        assert weights.url == f"https://download.pytorch.org/models/{known.file}"
        transforms = weights.transforms()
        assert known.preprocessing.mean == pytest.approx(transforms.mean)
        assert known.preprocessing.std == pytest.approx(transforms.std)


def test_the_embedded_weights_fit_their_pinned_hash() -> None:
    found = locate(network("lite0"))
    assert found.sha256 == KNOWN[-1].sha256
    assert found.id == "sha256:579344248a93e230"


def test_a_cached_file_is_used_without_a_download(tmp_path: Path) -> None:
    known = replace(KNOWN[0], sha256=DIGEST[:8])
    assert find_cached(known, cache=tmp_path, hub=tmp_path / "hub") is None
    (tmp_path / known.file).write_bytes(CONTENT)
    found = find_cached(known, cache=tmp_path, hub=tmp_path / "hub")
    assert found is not None
    assert (found.path, found.sha256) == (tmp_path / known.file, DIGEST)


@pytest.mark.parametrize(
    ("weights", "error", "says"),
    [
        ("imagenet1k_v2", WeightsMissing, r"did you mean 'imagenet1k_v1'.*imagenet1k_features"),
        ("nowhere/x.safetensors", WeightsMissing, "there is no weights file nowhere/x.safetensors"),
        (".", WeightsInvalid, r"\. is a folder, expected a \.safetensors or \.pth file"),
        ("x.pth#sha256=12ab", UsageError, "expected 64 hex digits"),
    ],
)
def test_weights_that_cannot_be_named_so(weights: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        locate(network("vgg16"), weights)


def test_a_demanded_hash_is_checked_before_the_file_is_parsed(tmp_path: Path) -> None:
    # Given a file that no parser would take
    path = tmp_path / "mine.safetensors"
    path.write_bytes(CONTENT)
    # When the right hash is demanded, by either way of saying so
    assert locate(network("vgg16"), f"{path}#sha256={DIGEST.upper()}").id == f"sha256:{DIGEST[:16]}"
    assert locate(network("vgg16"), str(path), sha256=DIGEST).sha256 == file_sha256(path)
    # Then it is found; a wrong one is refused for the hash, not for what is in the file
    with pytest.raises(WeightsHashMismatch, match="not parsed"):
        load_embedder(network="vgg16", weights=str(path), sha256="0" * 64)
    with pytest.raises(UsageError, match="two different hashes"):
        locate(network("vgg16"), f"{path}#sha256={DIGEST}", sha256="0" * 64)


# ---- what is in the file ----


def vgg16_trunk(**changes: Tensor | None) -> dict[str, Tensor]:
    """Tensors of VGG16 up to conv4_3, seeded; keyword a__b changes or (None) drops a.b."""
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(shape, generator=generator) * 0.02 for key, shape in needed("vgg16", "conv4_3").items()}
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    return tensors


def load(path: Path, *, layer: str = "conv4_3", net: str = "vgg16", name: str | None = None) -> LoadedNetwork:
    return load_network(locate(network(net), str(path)), network(net), layer, preprocessing_name=name)


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_nothing_of_it_runs(zipped: bool, tmp_path: Path) -> None:
    # Given a PyTorch file that makes a folder when it is unpickled
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    torch.save({"x": Malicious(marker)}, path, _use_new_zipfile_serialization=zipped)
    # When it is given as weights
    with pytest.raises(WeightsInvalid, match="holds more than tensors, and nothing of it was run"):
        load_embedder(network="vgg16", weights=str(path), device="cpu")
    with pytest.raises(WeightsInvalid, match="holds more than tensors"):
        load_embedder(weights=str(path), device="cpu")
    # Then the folder was not made, though the plain pickle would have made it
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


def damaged_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.safetensors"
    save_file(vgg16_trunk(), whole)
    torch.save(vgg16_trunk(), folder / "whole.pth")
    torch.save([1, 2], folder / "list.pth")
    contents = {
        "cut.safetensors": whole.read_bytes()[:-1000],
        "head.safetensors": whole.read_bytes()[:100],
        "cut.pth": (folder / "whole.pth").read_bytes()[:100_000],
        "text.pth": b"<html>404</html>",
        "text.safetensors": b"<html>404</html>",
        "empty.pth": b"",
        "empty.safetensors": b"",
        "model.onnx": b"onnx",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {path.name: path for path in folder.iterdir() if not path.name.startswith("whole")}


def test_damaged_files_are_each_one_clear_message(tmp_path: Path) -> None:
    # Given files that are cut off, empty, or something else
    says = {
        "cut.safetensors": "no whole safetensors file",
        "head.safetensors": "no whole safetensors file",
        "cut.pth": "damaged",
        "text.pth": "damaged",
        "text.safetensors": "no whole safetensors file",
        "empty.pth": "is empty",
        "empty.safetensors": "is empty",
        "model.onnx": r"ends in '\.onnx', expected \.safetensors or",
        "list.pth": "holds list, expected a state_dict",
    }
    # When they are loaded, then each is refused
    for name, path in damaged_files(tmp_path).items():
        with pytest.raises(WeightsInvalid, match=says[name]) as raised:
            load(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            vgg16_trunk(features__2__weight=torch.zeros(64, 32, 3, 3)),
            r"features\.2\.weight has shape \(64, 32, 3, 3\), expected \(64, 64, 3, 3\) for VGG16",
        ),
        (vgg16_trunk(features__21__bias=None), r"lacks features\.21\.bias, expected of shape \(512,\) for VGG16"),
        (vgg16_trunk(features__1__running_mean=torch.zeros(64)), r"'features\.1\.running_mean' .* does not have"),
        (vgg16_trunk(features__0__bias=torch.full((64,), torch.nan)), r"features\.0\.bias holds numbers .* not finite"),
        (vgg16_trunk(features__0__bias=torch.full((64,), torch.inf)), r"features\.0\.bias holds numbers .* not finite"),
        (vgg16_trunk(features__0__bias=torch.zeros(64, dtype=torch.int8)), r"features\.0\.bias has type torch\.int8"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors: dict[str, Tensor], says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsInvalid, match=says):
        load(path)


def test_a_layer_beyond_what_the_file_holds_is_refused_with_the_layers_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(), path)
    for layer in ("conv5_3", "fc7"):
        with pytest.raises(UnknownLayer, match=rf"no weights for layer '{layer}'.*; it has conv4_3$"):
            load(path, layer=layer)


def test_the_classes_of_a_classifier_may_be_any_number(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(classifier__6__weight=torch.zeros(7, 4096), classifier__6__bias=torch.zeros(7)), path)
    assert load(path).weights_id == f"sha256:{file_sha256(path)[:16]}"


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_torchvisions_features_have_no_fc_layers_which_is_said_before_any_download(layer: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownLayer, match=r"imagenet1k_features has no usable classifier.*conv4_3, conv5_3, pool5"):
        load_embedder(network="vgg16", weights="imagenet1k_features", layer=layer, device="cpu", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_a_safetensors_file_says_how_its_pixels_look(tmp_path: Path) -> None:
    # Given a file that says its preprocessing
    said = {"channels": "bgr", "scale": 0.5, "mean": [1, 2, 3], "std": [4, 5, 6]}
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(), path, {"network": "vgg16", "preprocessing": json.dumps(said)})
    # When it is loaded, then that is what holds
    assert load(path).preprocessing == preprocessing.Preprocessing(
        channels="bgr", scale=0.5, mean=(1, 2, 3), std=(4, 5, 6)
    )


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        '{"channels": "rgb"}',
        '{"channels": "grb", "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}',
        '{"channels": "rgb", "scale": 1, "mean": [0, 0], "std": [1, 1, 1]}',
        '{"channels": "rgb", "scale": 1, "mean": [0, 0, 0], "std": [1, 0, 1]}',
        '{"channels": "rgb", "scale": 1, "mean": [0, 0, NaN], "std": [1, 1, 1]}',
        '{"channels": "rgb", "scale": null, "mean": 5, "std": [1, 1, 1]}',
    ],
)
def test_metadata_that_is_no_preprocessing_is_refused(said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(), path, {"preprocessing": said})
    with pytest.raises(WeightsInvalid, match="metadata key 'preprocessing' cannot be used"):
        load(path)


def test_a_file_that_says_it_is_another_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(), path, {"network": "vgg19"})
    with pytest.raises(WeightsInvalid, match="says that it is for 'vgg19', expected 'vgg16'"):
        load(path)


@pytest.mark.parametrize(
    ("blue_at", "expected"),
    [(0, preprocessing.CAFFE_BGR), (2, preprocessing.TORCHVISION_FEATURES), (None, preprocessing.TORCHVISION)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_oxfords_convolutions_are_known_by_their_first_number(
    blue_at: int | None, expected: preprocessing.Preprocessing, dtype: torch.dtype, tmp_path: Path
) -> None:
    # Given a silent file whose first kernel is Oxford's, its channels in one order or the other
    tensors = vgg16_trunk()
    if blue_at is not None:
        tensors["features.0.weight"][0, blue_at, 0, 0] = 0.42947057
    path = tmp_path / "mine.safetensors"
    save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, path)
    # When it is loaded, then the pixels are those that Oxford or torchvision wants
    assert load(path).preprocessing == expected


def test_a_preprocessing_said_by_the_user_holds_and_marks_the_weights_id(tmp_path: Path) -> None:
    # Given a silent file, for which torchvision's pixels are taken
    path = tmp_path / "mine.safetensors"
    save_file(vgg16_trunk(), path)
    plain = load(path)
    # When the user says the same, then the vectors are comparable and carry one id
    assert load(path, name="torchvision").weights_id == plain.weights_id
    # When the user says otherwise, then they are not, and do not
    other = load(path, name="caffe-bgr")
    assert other.preprocessing == preprocessing.CAFFE_BGR
    assert other.weights_id == f"{plain.weights_id}+caffe-bgr"
    with pytest.raises(UsageError, match="expected one of torchvision, torchvision-features, caffe-bgr, lite0"):
        load(path, name="imagenet")


def test_torchvisions_features_file_given_by_path_is_refused_for_fc_layers(tmp_path: Path) -> None:
    # Given a known file whose record says that its classifier is of no use
    path = tmp_path / "features.pth"
    torch.save(vgg16_trunk(), path)
    file = WeightsFile(path=path, sha256=file_sha256(path), known=KNOWN[1])
    # When a layer behind the convolutions is asked for, then it is refused without reading the file
    with pytest.raises(UnknownLayer, match="no usable classifier"):
        load_network(file, network("vgg16"), "fc6")


def test_the_embedded_file_is_where_its_package_says() -> None:
    assert embedded_file().name == KNOWN[-1].file
