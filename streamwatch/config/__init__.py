"""YAML → frozen sections. Only this folder imports pyyaml and pydantic; it loads no numpy, PyAV or torch."""

from __future__ import annotations

from streamwatch.config.loading import load_config
from streamwatch.config.sections import (
    CameraChangeConfig,
    CameraConfig,
    ChangeConfig,
    Config,
    EventsConfig,
    MetricsConfig,
    Section,
)
from streamwatch.config.values import ListenAddress, Persistence, Polygon

__all__ = [
    "CameraChangeConfig",
    "CameraConfig",
    "ChangeConfig",
    "Config",
    "EventsConfig",
    "ListenAddress",
    "MetricsConfig",
    "Persistence",
    "Polygon",
    "Section",
    "load_config",
]
