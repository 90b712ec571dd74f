"""Every metric and label. Only this module imports prometheus_client."""

from __future__ import annotations

import contextlib

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics import MetricWrapperBase

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The daemon's metrics, in a registry of their own. Labels are bounded: cameras come from the configuration."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        self.registry = CollectorRegistry()
        camera = ["camera"]
        self.camera_up = Gauge(
            "streamwatch_camera_up",
            "1 while the camera's stream is open and gives pictures",
            camera,
            registry=self.registry,
        )
        self.camera_offline = Gauge(
            "streamwatch_camera_offline",
            "1 while the camera has given no picture for longer than its offline_after",
            camera,
            registry=self.registry,
        )
        self.frames = Counter(
            "streamwatch_frames", "Frames decoded and offered to sampling", camera, registry=self.registry
        )
        self.samples = Counter("streamwatch_samples", "Frames that sampling kept", camera, registry=self.registry)
        self.embedded = Counter(
            "streamwatch_embedded", "Samples that were embedded and judged", camera, registry=self.registry
        )
        self.dropped = Counter(
            "streamwatch_dropped",
            "Samples replaced by a newer one before the network was free",
            camera,
            registry=self.registry,
        )
        self.events = Counter("streamwatch_events", "New label needed", camera, registry=self.registry)
        self.event_failures = Counter(
            "streamwatch_event_failures",
            "Events that could not be written and are raised again",
            camera,
            registry=self.registry,
        )
        self.losses = Counter(
            "streamwatch_camera_losses",
            "Times that a camera's stream was lost or could not be opened",
            camera,
            registry=self.registry,
        )
        self.novelty = Gauge("streamwatch_novelty", "Novelty of the last judged sample", camera, registry=self.registry)
        self.threshold = Gauge(
            "streamwatch_threshold", "Novelty above which a label is needed", camera, registry=self.registry
        )
        self.states = Gauge(
            "streamwatch_remembered_states", "States in the camera's memory", camera, registry=self.registry
        )
        self.last_sample_s = Gauge(
            "streamwatch_last_sample_timestamp_seconds",
            "Unix time of the last judged sample",
            camera,
            registry=self.registry,
        )
        self.embed_s = Histogram(
            "streamwatch_embed_seconds",
            "Time that the network took for a batch",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.batch = Histogram(
            "streamwatch_batch_pictures", "Pictures in a batch", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self.fallbacks = Counter(
            "streamwatch_embedder_fallbacks",
            "Times that the embedder failed and went on: with a smaller batch, on the CPU, or rebuilt",
            ["to"],
            registry=self.registry,
        )
        self.embedder_batch = Gauge(
            "streamwatch_embedder_batch_size",
            "Pictures that the embedder is given at once; fewer than at the start once memory was short",
            registry=self.registry,
        )
        self.embedder_degraded = Gauge(
            "streamwatch_embedder_degraded",
            "1 while the embedder runs on the CPU because the GPU had no memory left",
            registry=self.registry,
        )
        self.reload_ok = Gauge(
            "streamwatch_config_last_reload_successful",
            "1 if the configuration in use is the last one that was asked for, 0 if that one was refused",
            registry=self.registry,
        )
        self.reload_ok.set(1)
        self.reloads = Counter(
            "streamwatch_config_reloads",
            "Times that the configuration was read again",
            ["result"],
            registry=self.registry,
        )
        for fallback in ("batch", "cpu", "rebuilt"):
            self.fallbacks.labels(fallback)
        for result in ("taken", "refused"):
            self.reloads.labels(result)
        self.info = Gauge(
            "streamwatch_network_info",
            "1; the labels name the network in use",
            ["network", "layer", "weights_id"],
            registry=self.registry,
        )

    def add_camera(self, camera: str) -> None:
        """Let a camera's series exist from the start, so that a camera that never answers is seen to be 0."""
        for metric in (
            self.camera_up,
            self.camera_offline,
            self.frames,
            self.samples,
            self.embedded,
            self.dropped,
            self.events,
            self.event_failures,
            self.losses,
            self.states,
        ):
            metric.labels(camera)

    def forget_camera(self, camera: str) -> None:
        """Take every series of a camera out of the exposition: it is watched no more."""
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase):
                with contextlib.suppress(ValueError):  # it has no such label
                    metric.remove_by_labels({"camera": camera})

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)
