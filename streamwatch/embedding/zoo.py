"""Any picture classifier of torchvision or timm, by `torchvision:NAME` and `timm:NAME`, cut at one of its modules.

The library builds the network; its weights come from a file of the user's, or are downloaded where the library says
from where, and then are read and checked as all weights files here are. Layers are the names of modules whose output
is a map, tokens of a square, or one vector; they are found by running the network once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from streamwatch.embedding.chain import MAX_INPUT_PX
from streamwatch.embedding.download import Progress, download
from streamwatch.embedding.known import KnownWeights
from streamwatch.embedding.networks import Network, nearest
from streamwatch.embedding.networks import network as network_by_name
from streamwatch.embedding.preprocessing import Preprocessing, preprocessing
from streamwatch.embedding.reading import LoadedNetwork, OpenFile, open_file
from streamwatch.embedding.weights import WeightsFile, cache_folder, find_cached, locate_file, split_hash
from streamwatch.embedding.zoo_layers import Cut, Place, default_of, run_once
from streamwatch.errors import MissingLibrary, UnknownNetwork, WeightsInvalid, WeightsMissing

_HASH = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")
_OWN_RELEASES = re.compile(r"https://github\.com/(?:rwightman|huggingface)/pytorch-image-models/releases/")
"""What timm has of elsewhere is in other formats."""


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """Weights that the library knows of."""

    known: KnownWeights
    url: str | None
    """None where there is no address with a hash: then `address` tells people where it is."""

    address: str
    input_px: int


def load_library_network(
    name: str,
    weights: str | None,
    layer: str | None,
    *,
    sha256: str | None = None,
    preprocessing_name: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> LoadedNetwork:
    """Build a library's network with the weights of a file, up to a layer.

    Args:
        name: `torchvision:NAME` or `timm:NAME`.
        weights: A file, or a name of the library's weights (`default` for timm's); `#sha256=HEX` allowed behind it.
            None for its default ones, if they are in a cache.
        layer: A module's name; None for the last map before the classifier.
        sha256: The hash demanded.
        preprocessing_name: Another preprocessing than the weights' own.
        cache: Folder for downloads.
        progress: Hears of a download's bytes.

    Raises:
        MissingLibrary: timm is not installed.
        UnknownNetwork, UnknownLayer: No such name in the library.
        UsageError: A hash or preprocessing that is none.
        WeightsError: The weights are missing, not the ones expected, or another network's.
        OutputError: The cache folder cannot be written.
    """
    offers = _offers(name)
    file = _find(name, weights, offers, sha256, cache, progress)
    opened = open_file(file.path)
    model, network, places, usual = _open(name, opened, offers, file)
    wanted = network.layer(layer)
    chosen, weights_id = usual, file.id
    if preprocessing_name is not None:
        chosen = preprocessing(preprocessing_name)
        if chosen != usual:
            weights_id += f"+{preprocessing_name}"
    return LoadedNetwork(
        module=Cut(model, wanted.name, places[wanted.name]).eval(),
        network=network,
        layer=wanted.name,
        preprocessing=chosen,
        weights_id=weights_id,
    )


def describe_library_network(name: str, opened: OpenFile) -> tuple[Network, Preprocessing]:
    """The network with the layers that a file has weights for, and the file's preprocessing. Raises as loading does."""
    _, network, _, usual = _open(name, opened, _offers(name), locate_file(str(opened.path)))
    return network, usual


def _open(
    name: str, opened: OpenFile, offers: tuple[_Offer, ...], file: WeightsFile
) -> tuple[nn.Module, Network, Mapping[str, Place], Preprocessing]:
    said = opened.metadata.get("network")
    if said is not None and said != name:
        raise WeightsInvalid(f"{file.path} says that it is for {said!r}, expected {name!r}")
    usual, input_px = _expected_pixels(opened, offers, file)
    model = _build(name)
    bad = _fill(model, opened, name)
    places, started = run_once(model, input_px, name)
    default = default_of(places)
    late = {key for key in bad if started.get(_owner(key), 0) > places[default].ended or _owner(key) not in started}
    for key, got in bad.items():
        if got is not None and key not in late:
            shape = tuple(model.state_dict()[key].shape)
            raise WeightsInvalid(f"{opened.path}: {key} has shape {got}, expected {shape} for {name}")
    first = min((started[_owner(key)] for key in bad if _owner(key) in started), default=math.inf)
    usable = {each: place for each, place in places.items() if place.ended < first}
    if not usable:
        missing = next(iter(bad))
        raise WeightsInvalid(f"{opened.path} lacks {missing}, expected for {name}; is it another network's file?")
    network = replace(
        network_by_name(name),
        layers=MappingProxyType({each: place.layer for each, place in usable.items()}),
        default_layer=default if default in usable else next(reversed(usable)),
        input_px=input_px,
    )
    return model, network, usable, usual


def _expected_pixels(opened: OpenFile, offers: tuple[_Offer, ...], file: WeightsFile) -> tuple[Preprocessing, int]:
    """As the file says; else, by its hash, as the library says; else as the library's default weights have it."""
    offer = next(
        (each for each in offers if each.known.sha256 and file.sha256.startswith(each.known.sha256)), offers[0]
    )
    usual, px = offer.known.preprocessing, offer.input_px
    try:
        if "preprocessing" in opened.metadata:
            usual = Preprocessing.from_json(opened.metadata["preprocessing"])
        if "input_px" in opened.metadata:
            px = int(opened.metadata["input_px"])
        if not 1 <= px <= MAX_INPUT_PX:
            raise ValueError(f"input_px is {px}, expected 1 … {MAX_INPUT_PX}")
        if usual.mean_image:
            raise ValueError("a mean image is only for networks of Caffe's")
    except ValueError as error:
        raise WeightsInvalid(f"{opened.path}: its metadata cannot be used: {error}") from None
    return usual, px


# ---- the libraries ----


def _offers(name: str) -> tuple[_Offer, ...]:
    """The weights that the library knows for a network, its default ones first; never empty."""
    library, _, own = name.partition(":")
    return _torchvision_offers(name, own) if library == "torchvision" else _timm_offers(name, own)


def _torchvision_offers(name: str, own: str) -> tuple[_Offer, ...]:
    from torchvision import models

    known = models.list_models(module=models)
    if own not in known:
        raise UnknownNetwork(f"torchvision has no classifier {own!r}{nearest(own, known)}; it has {', '.join(known)}")
    choices: Any = models.get_model_weights(own)
    offers = []
    for each in sorted(choices, key=lambda choice: choice is not choices.DEFAULT):
        pixels = each.transforms()
        match = _HASH.search(each.url)
        aliases = (f"{choices.__name__}.{each.name}".lower(), *(("default",) if each is choices.DEFAULT else ()))
        offers.append(
            _offer(
                name,
                each.name.lower(),
                aliases,
                url=each.url if match else None,
                address=each.url,
                mean=pixels.mean,
                std=pixels.std,
                input_px=int(pixels.crop_size[0]),
            )
        )
    return tuple(offers)


def _timm_offers(name: str, own: str) -> tuple[_Offer, ...]:
    timm = _timm()
    if not timm.is_model(own):
        known = timm.list_models()
        raise UnknownNetwork(
            f"timm has no network {own!r}{nearest(own, known)}; it has {len(known)}, which timm.list_models() lists"
        )
    try:
        config: Any = timm.get_pretrained_cfg(own)
    except RuntimeError:  # no such tag behind the dot
        config = None
    if config is None:
        tags = ", ".join(timm.list_pretrained(f"{own.partition('.')[0]}.*")[:20])
        raise UnknownNetwork(f"timm has no weights {own!r}; it has {tags or 'none for this network'}")
    url = config.url if isinstance(config.url, str) and _OWN_RELEASES.match(config.url) else ""
    hub = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors" if config.hf_hub_id else ""
    if config.input_size[1] != config.input_size[2]:
        raise UnknownNetwork(f"{name} has an input of {config.input_size}, expected a square picture")
    return (
        _offer(
            name,
            config.tag or "default",
            ("default",),
            url=url if _HASH.search(url) else None,
            address=url or hub or "timm names no address",
            mean=config.mean,
            std=config.std,
            input_px=int(config.input_size[2]),
        ),
    )


def _offer(
    network: str,
    name: str,
    aliases: tuple[str, ...],
    *,
    url: str | None,
    address: str,
    mean: Any,
    std: Any,
    input_px: int,
) -> _Offer:
    pixels = Preprocessing(channels="rgb", scale=1 / 255, mean=_triple(mean), std=_triple(std))
    match = _HASH.search(url or "")
    return _Offer(
        known=KnownWeights(
            network=network,
            name=name,
            aliases=aliases,
            file=(url or address).rpartition("/")[2],
            sha256=match[1] if match else "",
            classifier=True,
            preprocessing=pixels,
        ),
        url=url,
        address=address,
        input_px=input_px,
    )


def _triple(values: Any) -> tuple[float, float, float]:
    r, g, b = (float(value) for value in values)
    return r, g, b


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise MissingLibrary(
            "timm is not installed, whose network is asked for; install it with pip install 'streamwatch[timm]'"
        ) from None
    return timm


def _build(name: str) -> nn.Module:
    library, _, own = name.partition(":")
    if library == "timm":
        model: nn.Module = _timm().create_model(own, pretrained=False)
        return model.eval()
    from torchvision import models

    options: dict[str, Any] = {}
    if own in ("googlenet", "inception_v3"):
        # As torchvision builds them for its own weights, which came from TensorFlow; drawing numbers takes a minute.
        options = {"init_weights": False, "transform_input": True}
    model = models.get_model(own, weights=None, **options)
    return model.eval()


# ---- weights ----


def _find(
    name: str,
    weights: str | None,
    offers: tuple[_Offer, ...],
    sha256: str | None,
    cache: Path | None,
    progress: Progress | None,
) -> WeightsFile:
    wanted = "default" if weights is None else split_hash(weights)[0]
    offer = next((each for each in offers if wanted.lower() in (each.known.name, *each.known.aliases)), None)
    if offer is None:
        path = Path(wanted).expanduser()
        if not path.suffix and not path.exists():
            names = ", ".join(each.known.name for each in offers)
            raise WeightsMissing(
                f"{name} has no weights called {wanted!r}, and there is no such file; known are {names}"
            )
        assert weights is not None
        return locate_file(weights, sha256=sha256)
    found = find_cached(offer.known, cache=cache) if offer.url else None
    if found is None and offer.url is None:
        raise WeightsMissing(
            f"the weights of {name} are not downloaded from here: bring {offer.address} and give the file (--weights)"
        )
    if found is None and weights is None:
        raise WeightsMissing(
            f"{name} needs weights: --weights {offer.known.name} downloads {offer.url}; "
            "or bring that file and give its path"
        )
    if found is None:
        assert offer.url is not None
        target = (cache or cache_folder()) / offer.known.file
        download(offer.url, target, sha256=offer.known.sha256, progress=progress)
        found = replace(locate_file(str(target)), known=offer.known)
    demanded = sha256 if weights is None else split_hash(weights)[1] or sha256
    return replace(locate_file(str(found.path), sha256=demanded), known=found.known) if demanded else found


def _fill(model: nn.Module, opened: OpenFile, name: str) -> dict[str, tuple[int, ...] | None]:
    """Copy the file's numbers into the network; what it lacks (None) or has in another shape is left and returned."""
    bad: dict[str, tuple[int, ...] | None] = {}
    state = model.state_dict()
    for key, shape in opened.shapes.items():
        if key not in state:
            raise WeightsInvalid(f"{opened.path} holds {key!r} of shape {shape}, which {name} does not have")
    with torch.no_grad():
        for key, target in state.items():
            shape = opened.shapes.get(key, ())
            if key not in opened.shapes:
                if not key.endswith("num_batches_tracked"):
                    bad[key] = None
                continue
            if shape != tuple(target.shape):
                bad[key] = shape
                continue
            tensor = opened.tensor(key)
            if target.is_floating_point() and not (tensor.is_floating_point() and bool(torch.isfinite(tensor).all())):
                raise WeightsInvalid(f"{opened.path}: {key} holds other than finite floating-point numbers")
            target.copy_(tensor)
    return bad


def _owner(key: str) -> str:
    return key.rpartition(".")[0]
