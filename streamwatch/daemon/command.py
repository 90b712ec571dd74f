"""`streamwatch watch`: from a configuration file to a running service."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path

from streamwatch.assembly import kept_choice
from streamwatch.checks import check_networks
from streamwatch.config import Config, load_config
from streamwatch.daemon.health import check_port
from streamwatch.daemon.service import Service
from streamwatch.daemon.signals import Signals
from streamwatch.daemon.systemd import Notifier
from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.choose import choose_network
from streamwatch.events.sinks import Sink
from streamwatch.events.sinks.jsonl import JsonLinesSink, StandardOutputSink
from streamwatch.events.store import FolderStore
from streamwatch.metrics import Metrics

log = logging.getLogger(__name__)


def watch(config_path: Path, *, signals: Signals, stop_at_end: bool = False) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP has it read its configuration again.

    Raises:
        StreamwatchError: The configuration, the weights, the data folder or the port cannot be used.
    """
    read_config = partial(load_config, config_path, environ=os.environ)
    config = read_config()
    check_networks(config)
    # What is quickly found to be wrong comes before the network, which takes seconds, or a download.
    store = FolderStore(config.data_dir)
    with store.lock():
        sink = make_sink(config)
        if config.metrics.listen:
            check_port(config.metrics.listen.host, config.metrics.listen.port)
        metrics = Metrics()
        service = Service(
            config,
            embedder=load_guarded(config, store=store, metrics=metrics),
            store=store,
            sinks=[sink],
            notifier=Notifier(os.environ),
            metrics=metrics,
            read_config=read_config,
        )
        signals.deliver_to(service.stop, reload=service.reload)
        service.run(stop_at_end=stop_at_end)


def set_up_logging(*, level: str = "INFO") -> None:
    """Log to standard error; systemd's journal adds the time itself."""
    under_systemd = "JOURNAL_STREAM" in os.environ
    logging.basicConfig(
        level=level,
        format="%(levelname)s %(message)s" if under_systemd else "%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for chatty in ("PIL", "libav", "torch"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def load_configured(config: Config, *, store: FolderStore) -> Embedder:
    """The embedder of this data folder: what `network: auto` chose once stays, whatever the cache holds later.

    Raises:
        WeightsError: No such network, or its weights cannot be used.
        OutputError: The choice cannot be kept.
    """
    kept = kept_choice(config)
    choice = kept or choose_network(config.network, weights=config.weights, device=config.device)
    log.info("network %s", choice.reason)
    embedder = load_embedder(
        network=choice.network,
        weights=choice.weights,
        layer=config.layer,
        device=config.device,
        fit=config.fit,
        grid=config.change.regions,
        unit_length=config.change.unit_length,
    )
    if kept is None:
        store.keep_network_choice(network=choice.network, weights=choice.weights)
    return embedder


def load_guarded(config: Config, *, store: FolderStore, metrics: Metrics) -> Embedder:
    """The same, in a guard that halves its batch, goes to the CPU or builds it anew where it fails.

    Raises:
        WeightsError: As `load_configured`.
        OutputError: As `load_configured`.
    """
    from streamwatch.daemon.embedder_guard import GuardedEmbedder
    from streamwatch.embedding.out_of_memory import uses_gpu

    embedder = load_configured(config, store=store)
    on_cpu = config.model_copy(update={"device": "cpu"})
    return GuardedEmbedder(
        embedder,
        rebuild=partial(load_configured, config, store=store),
        rebuild_on_cpu=partial(load_configured, on_cpu, store=store) if uses_gpu(embedder) else None,
        metrics=metrics,
    )


def make_sink(config: Config) -> Sink:
    """Where the configuration sends events.

    Raises:
        OutputError: The file cannot be written.
    """
    path = config.jsonl_path
    return StandardOutputSink() if path is None else JsonLinesSink(path)
