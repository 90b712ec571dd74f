"""A .caffemodel, its deploy prototxt and its mean made into one weights file that says all there is to say."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamwatch.embedding import cnn_m
from streamwatch.embedding.caffe import Array, CaffeModel, read_mean, read_prototxt
from streamwatch.embedding.chain import (
    Chain,
    Convolution,
    FullyConnected,
    MaxPool,
    Operation,
    Rectifier,
    ResponseNorm,
    first_difference,
)
from streamwatch.embedding.networks import VGG_CONVOLUTIONS
from streamwatch.embedding.preprocessing import CAFFE_BGR, MEAN_IMAGE, Preprocessing, Triple
from streamwatch.embedding.weights import file_sha256
from streamwatch.errors import OutputError, UsageError, WeightsInvalid

_VGG_CHANNELS = (64, 128, 256, 512, 512)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import has made."""

    path: Path
    network: str
    input_px: int
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    """What the user should know, a sentence each."""


def import_caffe(*, caffemodel: Path, prototxt: Path, out: Path, mean: str | None = None) -> Imported:
    """Convert a Caffe network of the paper. The same files give the same bytes, and so the same id.

    Args:
        caffemodel: The numbers.
        prototxt: The deploy prototxt, which has the input's size.
        out: The .safetensors file to write; must not be there yet.
        mean: A mean image's .binaryproto, or three numbers as `B,G,R`; None for Oxford's three numbers.

    Raises:
        UsageError: `out` is no .safetensors name or is there already, or `mean` is neither.
        WeightsMissing: One of the files is not there.
        WeightsInvalid: One of them cannot be read, they do not fit together, or are of no known network.
        OutputError: The file cannot be written.
    """
    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"out is {str(out)!r}, expected a name that ends in .safetensors")
    if out.exists():
        raise UsageError(f"{out} is there already; remove it, or choose another name")
    chain = read_prototxt(prototxt)
    network = _recognise(chain, prototxt)
    if network not in cnn_m.FC7 and chain.input_px % 32:
        # Caffe's pools round up where the VGG layers here, as torchvision's, round down.
        raise WeightsInvalid(f"{prototxt}: the input is {chain.input_px} px, expected a multiple of 32 for {network}")
    names = _names(chain, network)
    preprocessing, image, notes = _mean(mean, chain.input_px)

    tensors = {_renamed(key, names): array for key, array in CaffeModel(caffemodel).tensors(chain).items()}
    metadata = {
        "network": network,
        "input_px": str(chain.input_px),
        "preprocessing": preprocessing.to_json(),
        "caffemodel_sha256": file_sha256(caffemodel),
        "prototxt_sha256": file_sha256(prototxt),
    }
    if network in cnn_m.FC7:
        metadata["chain"] = _canonical(chain, names).to_json()
    if image is not None:
        tensors[MEAN_IMAGE] = image
        metadata["mean_sha256"] = file_sha256(Path(str(mean)))
    write_safetensors(out, tensors, metadata)
    return Imported(path=out, network=network, input_px=chain.input_px, preprocessing=preprocessing, notes=notes)


def write_safetensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write float32 tensors, whole or not at all.

    The safetensors package writes metadata in another order at each run, and with it the file's hash would differ, by
    which vectors are told apart.

    Raises:
        OutputError: It cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in tensors.values():
                file.write(np.ascontiguousarray(array, "<f4").data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _recognise(chain: Chain, path: Path) -> str:
    """The network's name: the one that agrees with the prototxt the longest, and then it must agree to its end."""
    candidates: dict[str, list[Operation]] = {name: _vgg(counts) for name, counts in VGG_CONVOLUTIONS.items()}
    candidates |= {name: list(cnn_m.published(fc7).operations) for name, fc7 in cnn_m.FC7.items()}
    nearest, furthest, says = "", -1, ""
    for name, expected in candidates.items():
        difference = first_difference(chain.operations, expected)
        if difference is None:
            _check_rest(chain, len(expected), name, path)
            return name
        if difference[0] > furthest:
            (furthest, says), nearest = difference, name
    raise WeightsInvalid(
        f"{path} is none of the networks {', '.join(candidates)}; it comes nearest to {nearest}, but {says}"
    )


def _check_rest(chain: Chain, end: int, network: str, path: Path) -> None:
    """What comparing kinds has not seen: VGG's borders and pools, and what stands behind the layers that are used."""
    rest = chain.operations[end:]
    # VGG: fc6, fc7 and the classes, of any size. CNN-M: the classes.
    kinds = "fc relu fc relu fc" if network in VGG_CONVOLUTIONS else "fc"
    words = [
        "fc" if isinstance(each, FullyConnected) else "relu" if isinstance(each, Rectifier) else "other"
        for each in rest
    ]
    if words not in ([], kinds.split(), kinds.split()[:-1]):
        raise WeightsInvalid(
            f"{path} looks like {network}, but ends in {', '.join(map(str, rest))}; expected its fully connected layers"
        )
    if network not in VGG_CONVOLUTIONS:
        return
    for operation in chain.operations:
        if isinstance(operation, Convolution) and operation.pad != 1:
            raise WeightsInvalid(f"{path}: {operation.name} has a border of {operation.pad}, expected 1 for {network}")
        if isinstance(operation, MaxPool) and (operation.kernel, operation.stride, operation.pad) != (2, 2, 0):
            raise WeightsInvalid(f"{path}: {operation}, border {operation.pad}, expected 2×2/2 without for {network}")


def _vgg(counts: tuple[int, ...]) -> list[Operation]:
    operations: list[Operation] = []
    for block, (count, channels) in enumerate(zip(counts, _VGG_CHANNELS, strict=True), 1):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            operations += [Convolution(name=name, channels=channels, kernel=3, stride=1, pad=1), Rectifier()]
        operations.append(MaxPool(name=f"pool{block}", kernel=2, stride=2, pad=0))
    return operations


def _names(chain: Chain, network: str) -> dict[str, str]:
    """The prototxt's name of each operation → ours: torchvision's for VGG, the authors' for CNN-M."""
    if network in cnn_m.FC7:
        ours = [getattr(each, "name", None) for each in cnn_m.published(cnn_m.FC7[network]).operations]
        pairs = zip(chain.operations, [*ours, "fc8"], strict=False)
        return {each.name: str(name) for each, name in pairs if not isinstance(each, Rectifier | ResponseNorm)}
    # torchvision counts every module of `features`, and in `classifier` a Dropout behind each ReLU.
    names, index, classifier = {}, 0, 0
    for operation in chain.operations:
        if isinstance(operation, FullyConnected):
            names[operation.name] = f"classifier.{classifier}"
            classifier += 3
        elif not classifier:
            if isinstance(operation, Convolution):
                names[operation.name] = f"features.{index}"
            index += 1
    return names


def _renamed(key: str, names: Mapping[str, str]) -> str:
    name, _, part = key.rpartition(".")
    return f"{names[name]}.{part}"


def _canonical(chain: Chain, names: Mapping[str, str]) -> Chain:
    operations = tuple(
        each if isinstance(each, Rectifier | ResponseNorm) else replace(each, name=names[each.name])
        for each in chain.operations
        if not (isinstance(each, FullyConnected) and names[each.name] == "fc8")
    )
    return Chain(input_px=chain.input_px, operations=operations)


def _mean(mean: str | None, size_px: int) -> tuple[Preprocessing, Array | None, tuple[str, ...]]:
    if mean is None:
        numbers = ", ".join(f"{each:g}" for each in CAFFE_BGR.mean)
        return (
            CAFFE_BGR,
            None,
            (
                f"no mean was given: Oxford's three numbers are subtracted, {numbers}; if the network was trained with "
                "a mean image, import again with --mean FILE",
            ),
        )
    try:
        numbers_given = [float(part) for part in mean.split(",")]
    except ValueError:
        image = read_mean(Path(mean), size_px=size_px)
        b, g, r = (float(each) for each in image.mean((1, 2), dtype=np.float64))
        return replace(CAFFE_BGR, mean=(b, g, r), mean_image=True), image, ()
    if len(numbers_given) != 3 or not all(0 <= number <= 255 for number in numbers_given):
        raise UsageError(f"mean is {mean!r}, expected a .binaryproto file or three numbers of 0 … 255 as B,G,R")
    triple: Triple = (numbers_given[0], numbers_given[1], numbers_given[2])
    return replace(CAFFE_BGR, mean=triple), None, ()
