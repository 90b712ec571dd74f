"""`streamwatch index`: options in; a gallery and a summary out. And a gallery's extractor, for whoever reads one."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamwatch.embedding import load_embedder
from streamwatch.embedding.choose import choose_network
from streamwatch.errors import SourceUnusable, UsageError, WeightsMismatch
from streamwatch.offline.features import (
    DEFAULT_SCALES,
    REGIONAL_LAYERS,
    RETRIEVAL_LAYERS,
    FeatureExtractor,
    embedder_pooling,
)
from streamwatch.offline.gallery import Gallery, load_lance
from streamwatch.offline.indexing import IndexSummary, index
from streamwatch.offline.output import printable
from streamwatch.offline.picture_lists import Item, Problem, find_images, read_boxes


def index_folders(options: argparse.Namespace) -> int:
    """Index folders and boxes into a gallery, which is made where there is none.

    Returns:
        0, also where some pictures could not be read; 3 where none could; 130 where Ctrl-C ended it early: what was
        done by then is kept.

    Raises:
        StreamwatchError: The options, the network or the gallery cannot be used.
    """
    errors = Console(stderr=True)
    if not options.folders and not options.boxes and not options.ann:
        raise UsageError("there is nothing to index: name folders of images, or a CSV file with --boxes")
    for name, value in (("--batch", options.batch), ("--flush", options.flush)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, expected at least 1")
    load_lance()  # rather now than after all else
    # Sorting keeps crops of a file that is also in a folder beside it: it is then decoded once.
    items, problems = read_boxes(options.boxes) if options.boxes else ([], [])
    paths = find_images(options.folders)
    if options.folders and not paths:
        named = ", ".join(map(str, options.folders))
        raise SourceUnusable(f"there are no images in {named}; their names end in .jpg, .png, .tif, .webp, …")
    items = sorted([*map(Item, paths), *items], key=lambda item: item.path)
    if not items and not problems:  # --ann alone
        gallery = Gallery.open(options.gallery)
        summary = IndexSummary(asked=0)
        with gallery.writing():
            _build_ann(gallery, errors)
    else:
        if Gallery.exists(options.gallery):
            gallery = Gallery.open(options.gallery)
            extractor = _checked_extractor(options, gallery)
        else:
            extractor = _new_extractor(options, errors)
            gallery = Gallery.create(options.gallery, extractor.identity, weights=_named(options.weights))
        with gallery.writing():
            summary = _index(items, gallery, extractor, options, errors)
            summary.problems[:0] = problems
            gallery.tidy()
            if options.ann and not summary.interrupted:
                _build_ann(gallery, errors)
    _tell(summary, gallery, options, errors)
    if summary.interrupted:
        return 130
    return 3 if summary.problems and not summary.added and not summary.known else 0


def _index(
    items: Sequence[Item], gallery: Gallery, extractor: FeatureExtractor, options: argparse.Namespace, errors: Console
) -> IndexSummary:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task("indexing", total=len(items), rate="")
        started_s = time.monotonic()

        def heard(done: int) -> None:
            rate = done / max(time.monotonic() - started_s, 1e-9)
            progress.update(task, completed=done, rate=f"{rate:.3g}/s")

        chunk = max(16, options.batch or 0)
        return index(
            items, gallery, extractor, chunk=chunk, flush_every=options.flush, flush_s=options.flush_s, progress=heard
        )


def _build_ann(gallery: Gallery, errors: Console) -> None:
    with errors.status("building the approximate index") if errors.is_terminal else nullcontext():
        gallery.build_ann()


def _new_extractor(options: argparse.Namespace, errors: Console) -> FeatureExtractor:
    choice = choose_network(options.network or "auto", weights=options.weights, device=options.device)
    if options.network in (None, "auto"):
        errors.print(f"network {choice.reason}", markup=False, highlight=False, soft_wrap=True)
    layers = REGIONAL_LAYERS if options.regional else RETRIEVAL_LAYERS
    pooling, scales = options.pooling or "mean", DEFAULT_SCALES if options.regional else 0
    embedder = load_embedder(
        network=choice.network,
        weights=choice.weights,
        layer=options.layer or layers.get(choice.network),
        device=options.device,
        fit=options.fit or "squash",
        pooling=embedder_pooling(pooling, scales),
        unit_length=False,
        batch_size=options.batch,
    )
    return FeatureExtractor(
        embedder,
        pooling=pooling,
        unit_length=not options.raw,
        scales=scales,
        half=bool(options.half),
    )


def _checked_extractor(options: argparse.Namespace, gallery: Gallery) -> FeatureExtractor:
    """As the gallery was made; options that ask for something else are refused."""
    identity = gallery.identity
    for name, asked, has in (
        ("--network", options.network, identity.network),
        ("--layer", options.layer, identity.layer),
        ("--pooling", options.pooling, identity.pooling),
        ("--fit", options.fit, identity.fit),
        ("--raw", "raw" if options.raw else None, "raw" if not identity.unit_length else "unit length"),
    ):
        if asked not in (None, "auto", has):
            raise WeightsMismatch(
                f"{gallery.path} was made with {identity.describe()}; {name} asks for {asked}. Leave it out to go on "
                "with this gallery, or name a new one"
            )
    for name, wants, has_it in (
        ("--half", options.half, identity.half),
        ("--regional", options.regional, identity.windows > 0),
    ):
        if wants and not has_it:
            raise UsageError(f"{gallery.path} was made without {name}; leave it out, or name a new gallery")
    return extractor_of(gallery, options.weights, options.device, batch=options.batch)


def extractor_of(gallery: Gallery, weights: str | None, device: str, *, batch: int | None = None) -> FeatureExtractor:
    """The extractor that a gallery was made with.

    Raises:
        WeightsMismatch: The weights named, or found under the gallery's name for them, are others.
    """
    identity = gallery.identity
    embedder = load_embedder(
        network=identity.network,
        weights=weights or gallery.weights,
        layer=identity.layer,
        device=device,
        fit=identity.fit,
        pooling=embedder_pooling(identity.pooling, identity.scales),
        unit_length=False,
        batch_size=batch,
    )
    extractor = FeatureExtractor(
        embedder,
        pooling=identity.pooling,
        unit_length=identity.unit_length,
        scales=identity.scales,
        half=identity.half,
    )
    identity.check_comparable(extractor.identity, mine=f"the gallery {gallery.path}", others="the pictures given")
    return extractor


def _named(weights: str | None) -> str | None:
    """How the weights are to be found again: a file by its absolute path."""
    if weights is None:
        return None
    path = Path(weights.rpartition("#sha256=")[0] or weights).expanduser()
    return str(path.absolute()) if path.is_file() else weights


def _tell(summary: IndexSummary, gallery: Gallery, options: argparse.Namespace, errors: Console) -> None:
    total = len(gallery)
    for problem in summary.problems:
        _warn(problem, errors)
    if options.json:
        document = {
            "gallery": str(options.gallery),
            "rows": total,
            "asked": summary.asked,
            "added": summary.added,
            "known": summary.known,
            "problems": [vars(problem) for problem in summary.problems],
            "interrupted": summary.interrupted,
            "elapsed_s": round(summary.elapsed_s, 3),
            "images_per_s": round(summary.images_per_s, 2),
            "ann_rows": gallery.ann_rows,
            "identity": {**vars(gallery.identity), "grid": vars(gallery.identity.grid)},
        }
        print(json.dumps(document, ensure_ascii=True))
        return
    facts = [f"{summary.added:,} added", f"{summary.known:,} known already"]
    if summary.problems:
        facts.append(f"{len(summary.problems):,} unreadable")
    rate = f" ({summary.images_per_s:.3g} a second)" if summary.added else ""
    end = "; interrupted: run it again to go on" if summary.interrupted else ""
    print(printable(f"{options.gallery}: {', '.join(facts)}{rate}; {total:,} in the gallery{end}"))


def _warn(problem: Problem, errors: Console) -> None:
    reason = problem.reason if problem.path in problem.reason else f"{problem.path}: {problem.reason}"
    errors.print(printable(f"skipped: {reason}"), style="yellow", markup=False, highlight=False, soft_wrap=True)
