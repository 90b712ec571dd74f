"""`streamwatch weights import` and `streamwatch weights show`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamwatch.embedding.chain import Chain, MaxPool, ResponseNorm


def import_weights(options: argparse.Namespace) -> int:
    """Convert Caffe's files, say what came of it; returns the exit code.

    Raises:
        StreamwatchError: The files cannot be read, do not fit together, or the result cannot be written.
    """
    from streamwatch.embedding.caffe_import import import_caffe

    console = Console(stderr=True)
    with console.status(f"reading {options.caffemodel.name}") if console.is_terminal else _Quiet():
        made = import_caffe(
            caffemodel=options.caffemodel, prototxt=options.prototxt, mean=options.mean, out=options.out
        )
    for note in made.notes:
        print(f"streamwatch: {note}", file=sys.stderr)
    return show_weights(argparse.Namespace(file=made.path, network=None, json=options.json))


def show_weights(options: argparse.Namespace) -> int:
    """Print what a weights file is; returns the exit code.

    Raises:
        StreamwatchError: There is no such file, or it fits no network.
    """
    shown = describe(options.file, network=options.network)
    if options.json:
        print(json.dumps(shown))
    else:
        _print(shown, Console())
    return 0


class _Quiet:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def describe(path: Path, *, network: str | None = None) -> dict[str, Any]:
    """What a weights file holds, as plain JSON values.

    Args:
        path: A .safetensors or .pth file.
        network: Whose it is, where the file does not tell.

    Raises:
        WeightsMissing: There is no such file.
        WeightsInvalid: It cannot be read, or fits no network.
        UnknownNetwork: No such network.
    """
    from streamwatch.embedding.choose import network_of_file
    from streamwatch.embedding.networks import network as network_by_name
    from streamwatch.embedding.weights import locate, split_hash

    name, _ = split_hash(str(path))
    if network is None:
        network = network_of_file(Path(name).expanduser())
    net = network_by_name(network)
    file = locate(net, str(path)) if not net.of_library else _located(path)

    from streamwatch.embedding.reading import inspect, open_file, usable_layers, usual_preprocessing

    opened = open_file(file.path)
    if net.of_library:
        from streamwatch.embedding.zoo import describe_library_network

        own, preprocessing = describe_library_network(net.name, opened)
        names: tuple[str, ...] = tuple(own.layers)
    else:
        form, own = inspect(opened, net)
        names = usable_layers(opened, own, form)
        preprocessing = usual_preprocessing(opened, net, file.known)
    return {
        "file": str(file.path),
        "id": file.id,
        "sha256": file.sha256,
        "bytes": file.path.stat().st_size,
        "tensors": len(opened.shapes),
        "parameters": sum(math.prod(shape) for shape in opened.shapes.values()),
        "network": net.name,
        "input_px": own.input_px,
        "default_layer": own.default_layer if own.default_layer in names else None,
        "layers": [
            {
                "name": each.name,
                "rows": each.grid.rows,
                "columns": each.grid.columns,
                "dimensions": each.dimensions,
                "threshold": each.threshold,
            }
            for each in (own.layers[name] for name in names)
        ],
        "preprocessing": json.loads(preprocessing.to_json()),
        "metadata": dict(sorted(opened.metadata.items())),
    }


def _located(path: Path) -> Any:
    from streamwatch.embedding.weights import locate_file

    return locate_file(str(path))


def _print(shown: dict[str, Any], console: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    pixels = shown["preprocessing"]
    order = {"rgb": "red first", "bgr": "blue first"}[pixels["channels"]]
    less = "a mean image" if pixels.get("mean_image") else _numbers(pixels["mean"])
    steps = [f"{order}, 0 … {255 * pixels['scale']:g}", f"less {less}"]
    if pixels["std"] != [1.0, 1.0, 1.0]:
        steps.append(f"divided by {_numbers(pixels['std'])}")
    rows = {
        "file": shown["file"],
        "network": shown["network"],
        "input": f"{shown['input_px']}×{shown['input_px']} px",
        "pixels": ", ".join(steps),
        "id": shown["id"],
        "SHA-256": shown["sha256"],
        "size": f"{shown['bytes']:,} bytes, {shown['tensors']} tensors, {shown['parameters']:,} numbers",
    }
    if "chain" in shown["metadata"]:
        chain = Chain.from_json(shown["metadata"]["chain"])
        norms = [
            f"{each}, alpha {each.alpha:g}, beta {each.beta:g}, k {each.k:g}"
            for each in chain.operations
            if isinstance(each, ResponseNorm)
        ]
        pools = [
            f"{each.name} {each.kernel}×{each.kernel}/{each.stride}"
            for each in chain.operations
            if isinstance(each, MaxPool)
        ]
        rows |= {"norms": "; ".join(norms), "pools": ", ".join(pools)}
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    console.print(table)
    layers = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, justify in (
        ("layer", "left"),
        ("regions", "right"),
        ("numbers each", "right"),
        ("threshold", "right"),
    ):
        layers.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for each in shown["layers"]:
        mark = " (default)" if each["name"] == shown["default_layer"] else ""
        threshold = "–" if each["threshold"] is None else f"{each['threshold']:g}"
        grid = f"{each['rows']}×{each['columns']}"
        layers.add_row(Text(each["name"] + mark), grid, str(each["dimensions"]), threshold)
    console.print(layers)


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" if value < 1 else f"{value:.3f}".rstrip("0").rstrip(".") for value in values)
