"""`streamwatch eval`: options in; matrix, CSV, JSON, the HTML report and a run that others are compared with out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.choose import choose_network
from streamwatch.embedding.fitting import check_fit
from streamwatch.embedding.networks import network as network_by_name
from streamwatch.embedding.weights import cache_folder
from streamwatch.errors import OutputError, UnknownLayer, UsageError, WeightsInvalid
from streamwatch.events.files import make_folder
from streamwatch.offline.comparing import compare, pair_up
from streamwatch.offline.distances import canonical
from streamwatch.offline.embedded import Maker, VectorStore, embed_missing, read_contents
from streamwatch.offline.eval_output import (
    Cell,
    Features,
    comparison_json,
    print_comparisons,
    print_matrix,
    to_json,
    write_csv,
)
from streamwatch.offline.eval_report import Sheets, write_eval_report
from streamwatch.offline.evaluation import Settings, clusters, evaluate
from streamwatch.offline.heatmap import Bounds
from streamwatch.offline.pooling import OF_PLACES, check_pooling, unit_length
from streamwatch.offline.runs import RUN_FILE, load_run, save_run
from streamwatch.offline.triplets import Triplets, read_triplets, thinned, without_images

DEFAULT_METRICS = ("sqeuclidean", "cosine", "hamming-binary")
DEFAULT_LAYERS: Mapping[str, tuple[str, ...]] = {
    "lite0": ("features",),
    "vgg16": ("fc7", "pool5"),
    "vgg19": ("fc7", "pool5"),
}
"""Where each network is cut unless the user says otherwise: the first that its weights allow."""


def evaluate_triplets(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; or 2 where some metric could not be computed: the others are written all the same.

    Raises:
        StreamwatchError: The options, the list, a network or the output folder cannot be used.
    """
    settings, sheets = _settings(options), _sheets(options)
    if options.compare:
        return _compare(options, settings)
    if options.triplets is None:
        raise UsageError("no list of triplets is named; expected streamwatch eval TRIPLETS.csv, or --compare RUN RUN")
    metrics = list(dict.fromkeys(canonical(name) for name in options.metric or DEFAULT_METRICS))
    poolings = list(dict.fromkeys(check_pooling(name) for name in options.pooling or ("mean",)))
    check_fit(options.fit)
    chosen = _networks(options.network, options.weights)
    triplets = read_triplets(options.triplets, root=options.root)
    if options.limit is not None:
        triplets = thinned(triplets, options.limit)
    make_folder(options.out)
    errors = Console(stderr=True)
    with ExitStack() as stack, _progress(errors) as progress:
        triplets, wanted, kept = _embed(stack, options, triplets, chosen, poolings, progress, errors)
        cells = list(_cells(triplets, wanted, kept, metrics, settings, progress))
    _write(options, triplets, cells, settings, sheets)
    failed = [cell for cell in cells if cell.evaluation is None]
    if len(failed) == len(cells):
        raise UsageError(failed[0].error)
    return 2 if failed else 0


def _settings(options: argparse.Namespace) -> Settings:
    for name, value, least in (("--top", options.top, 1), ("--class-sample", options.class_sample, 2)):
        if value < least:
            raise UsageError(f"{name} is {value}, expected at least {least}")
    return Settings(seed=options.seed, class_sample=options.class_sample, top=options.top)


def _sheets(options: argparse.Namespace) -> Sheets:
    return Sheets(each=max(options.sheet, 0), bounds=Bounds(best=options.best / 100, worst=options.worst / 100))


def _networks(networks: Sequence[str] | None, weights: Sequence[str] | None) -> list[tuple[str, str | None]]:
    """Networks with their weights: given in the same order, or as NETWORK=WEIGHTS."""
    names = list(dict.fromkeys(networks or ()))
    plain: list[str] = []
    named: dict[str, str] = {}
    for each in weights or ():
        network, equals, rest = each.partition("=")
        if equals and (network in names or not os.path.exists(each.partition("#")[0])) and "/" not in network:
            network_by_name(network)
            named[network] = rest
        else:
            plain.append(each)
    names += [network for network in named if network not in names]
    open_ = [name for name in names if name not in named]
    if not names:
        chosen = [choose_network(weights=each) for each in plain] or [choose_network()]
        return [(choice.network, choice.weights) for choice in chosen]
    if plain and len(plain) != len(open_):
        raise UsageError(
            f"--weights is given {len(plain)} times for {len(open_)} networks: give one for each, in their order, or "
            "as NETWORK=WEIGHTS"
        )
    found = [(name, named.get(name) or (plain[open_.index(name)] if plain else None)) for name in names]
    return [
        (choice.network, choice.weights)
        for choice in (choose_network(name, weights=weights) for name, weights in found)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    """Vectors on disk, and how they are to be read."""

    features: Features
    store: VectorStore


def _embed(
    stack: ExitStack,
    options: argparse.Namespace,
    triplets: Triplets,
    chosen: Sequence[tuple[str, str | None]],
    poolings: Sequence[str],
    progress: Progress,
    errors: Console,
) -> tuple[Triplets, list[str], list[_Kept]]:
    """Embed what the cache lacks: the triplets whose images can be read, their contents, and where the vectors are."""
    contents = read_contents(triplets.images)
    unreadable = dict(contents.unreadable)
    kept: list[_Kept] = []
    for network, weights in chosen:
        for makers in _makers(stack, options, network, weights, poolings, [name for name, _ in chosen]):
            base = makers[0].embedder.identity
            task = progress.add_task(f"{base.network} {base.layer}: images", total=None)
            unreadable |= embed_missing(triplets.images, contents, makers, heard=_hearer(progress, task))
            progress.remove_task(task)
            for pooling, store in ((name, store) for maker in makers for name, store in maker.stores.items()):
                store.release()
                for unit in _lengths(options):
                    features = Features(
                        network=base.network,
                        layer=base.layer,
                        pooling=pooling,
                        weights_id=base.weights_id,
                        unit_length=unit,
                        dimensions=store.dimensions,
                    )
                    kept.append(_Kept(features=features, store=store))
    for reason in list(dict.fromkeys(unreadable.values()))[:5]:
        errors.print(f"streamwatch: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    content_of = dict(zip(triplets.images, contents.hashes, strict=True))
    triplets = without_images(triplets, unreadable)
    return triplets, [content_of[image] or "" for image in triplets.images], kept


def _makers(
    stack: ExitStack,
    options: argparse.Namespace,
    network: str,
    weights: str | None,
    poolings: Sequence[str],
    networks: Sequence[str],
) -> Iterator[list[Maker]]:
    """For each layer the embedders that its poolings need, with their stores."""
    known = network_by_name(network)
    if not options.layer:
        yield _default_maker(stack, options, network, weights, poolings)
        return
    layers = list(dict.fromkeys(options.layer))
    own = [layer for layer in layers if known.of_library or layer in known.layers]
    for layer in layers:
        if layer in own:
            yield _layer_makers(stack, options, network, weights, layer, poolings)
        elif not any(layer in network_by_name(other).layers for other in networks):
            known.layer(layer)  # raises
    if not own:
        raise UnknownLayer(
            f"{known.title} has none of the layers {', '.join(layers)}; it has {', '.join(known.layers)}"
        )


def _default_maker(
    stack: ExitStack, options: argparse.Namespace, network: str, weights: str | None, poolings: Sequence[str]
) -> list[Maker]:
    tries: Sequence[str | None] = DEFAULT_LAYERS.get(network, (None,))
    for layer in tries[:-1]:
        try:
            return _layer_makers(stack, options, network, weights, layer, poolings)
        except (UnknownLayer, WeightsInvalid):
            continue  # The weights end before their classifier.
    return _layer_makers(stack, options, network, weights, tries[-1], poolings)


def _layer_makers(
    stack: ExitStack,
    options: argparse.Namespace,
    network: str,
    weights: str | None,
    layer: str | None,
    poolings: Sequence[str],
) -> list[Maker]:
    def embedder(pooling: str) -> Embedder:
        return load_embedder(
            network=network,
            weights=weights,
            layer=layer,
            device=options.device,
            fit=options.fit,
            pooling=pooling,
            unit_length=False,
        )

    base = embedder("layer")
    identity = base.identity
    if identity.grid.regions == 1:
        poolings = poolings[:1]  # They would all be the same.
    cut = network_by_name(network).layers.get(identity.layer)
    # Several poolings of one pass; but a mean over 2×2 places first would change these.
    averaged = cut is None or cut.average > 1
    alone = [name for name in poolings if name in OF_PLACES and averaged and identity.grid.regions > 1]
    stores = {
        name: stack.enter_context(VectorStore(options.cache or cache_folder().parent / "vectors", identity, name))
        for name in poolings
    }
    together = {name: store for name, store in stores.items() if name not in alone}
    makers = [Maker(embedder=base, stores=together)] if together else []
    return makers + [Maker(embedder=embedder(name), stores={name: stores[name]}) for name in alone]


def _cells(
    triplets: Triplets,
    wanted: Sequence[str],
    kept: Sequence[_Kept],
    metrics: Sequence[str],
    settings: Settings,
    progress: Progress,
) -> Iterator[Cell]:
    task = progress.add_task("metrics", total=len(kept) * len(metrics) * len(triplets))
    for number, each in enumerate(kept):
        raw = each.store.read(wanted)
        vectors = unit_length(raw) if each.features.unit_length else raw
        del raw
        for place, metric in enumerate(metrics):
            before = (number * len(metrics) + place) * len(triplets)
            progress.update(task, completed=before, description=f"{each.features.name}: {metric}")
            try:
                evaluation = evaluate(
                    vectors,
                    triplets.index,
                    metric,
                    classes=triplets.classes,
                    settings=settings,
                    heard=_hearer(progress, task, before=before),
                )
            except UsageError as error:
                yield Cell(features=each.features, metric=metric, evaluation=None, error=str(error))
            else:
                yield Cell(features=each.features, metric=metric, evaluation=evaluation)


def _write(
    options: argparse.Namespace, triplets: Triplets, cells: Sequence[Cell], settings: Settings, sheets: Sheets
) -> None:
    groups = clusters(triplets.index, triplets.classes)
    save_run(
        options.out / RUN_FILE,
        keys=[triplets.key(number) for number in range(len(triplets))],
        groups=[str(group) for group in groups],
        cells=[(cell.name, cell.evaluation.outcomes) for cell in cells if cell.evaluation is not None],
    )
    table = options.csv or options.out / "results.csv"
    try:
        with table.open("w", newline="", encoding="utf-8") as file:
            write_csv(cells, file)
    except OSError as error:
        raise OutputError(f"cannot write {table}: {error.strerror or error}") from error
    report = options.out / "report.html"
    write_eval_report(report, triplets, cells, settings=settings, sheets=sheets, generated_at=datetime.now(UTC))
    if options.json:
        print(json.dumps(to_json(triplets, cells), ensure_ascii=True, allow_nan=False))
        print(f"report: {report}", file=sys.stderr)
        return
    console = Console()
    print_matrix(triplets, cells, console)
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)


def _compare(options: argparse.Namespace, settings: Settings) -> int:
    if options.triplets is not None:
        raise UsageError("--compare takes runs that are there already; leave the list of triplets out")
    first, second = (load_run(text) for text in options.compare)
    comparisons = [compare(one, other, settings=settings) for one, other in pair_up(first, second)]
    if options.json:
        print(json.dumps(comparison_json(comparisons), allow_nan=False))
    else:
        print_comparisons(comparisons, Console())
    return 0


def _lengths(options: argparse.Namespace) -> list[bool]:
    """Unit length, raw, or both where both are asked for."""
    if options.raw:
        return [True, False] if options.unit_length else [False]
    return [True]


def _hearer(progress: Progress, task: TaskID, *, before: int = 0) -> Callable[..., None]:
    def heard(done: int, total: int | None = None) -> None:
        progress.update(task, completed=before + done, total=total)

    return heard


def _progress(errors: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
