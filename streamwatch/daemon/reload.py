"""What a changed configuration means for a running daemon. Pure: two configurations in, a plan out."""

from __future__ import annotations

from dataclasses import dataclass

from streamwatch.config import CameraConfig, Config
from streamwatch.errors import ConfigError

_JUDGED_BY = frozenset({"zones", "masks", "change"})
_WITHOUT_RESTART = frozenset({*_JUDGED_BY, "offline_after", "password_file"})
"""Keys of a camera that its reader does not know: the stream goes on. A password file matters by the password in it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done for a configuration to hold."""

    config: Config
    stopped: tuple[str, ...]
    """Cameras that are gone, or are started anew."""

    started: tuple[CameraConfig, ...]
    """New ones, and those with another address, period, … ."""

    rejudged: tuple[CameraConfig, ...]
    """Those of which only the decision changes; their streams go on and their memory stays."""

    @property
    def empty(self) -> bool:
        """Whether nothing changes for any camera's stream or decision."""
        return not (self.stopped or self.started or self.rejudged)

    def __str__(self) -> str:
        restarted = {camera.name for camera in self.started} & set(self.stopped)
        parts = {
            "new": [camera.name for camera in self.started if camera.name not in restarted],
            "gone": [name for name in self.stopped if name not in restarted],
            "opened anew": sorted(restarted),
            "judged otherwise": [camera.name for camera in self.rejudged],
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names) or "no camera changes"


def plan_reload(old: Config, new: Config) -> Plan:
    """How to come from one configuration to another.

    Raises:
        ConfigError: Something else was changed than cameras and their decision, which takes a restart.
    """
    _refuse_what_needs_a_restart(old, new)
    before = {camera.name: camera for camera in old.cameras}
    after = {camera.name: camera for camera in new.cameras}
    kept = {name for name in after if name in before and _same_stream(before[name], after[name])}
    return Plan(
        config=new,
        stopped=tuple(name for name in before if name not in kept),
        started=tuple(camera for name, camera in after.items() if name not in kept),
        rejudged=tuple(
            camera
            for name, camera in after.items()
            if name in kept and _decision(old, before[name]) != _decision(new, camera)
        ),
    )


def _refuse_what_needs_a_restart(old: Config, new: Config) -> None:
    keys = [key for key in Config.model_fields if key not in ("cameras", "change", "events")]
    changed = [key for key in keys if getattr(old, key) != getattr(new, key)]
    # These decide what a vector is, and a memory holds vectors.
    changed += [f"change.{key}" for key in ("regions", "unit_length") if _differ(old.change, new.change, key)]
    inner = [key for key in type(old.events).model_fields if key != "jpeg_quality"]
    changed += [f"events.{key}" for key in inner if _differ(old.events, new.events, key)]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} cannot change while the daemon runs, expected changes of cameras, change and "
            "events.jpeg_quality only; restart it (systemctl restart streamwatch), or take the change back"
        )


def _differ(old: object, new: object, key: str) -> bool:
    return bool(getattr(old, key) != getattr(new, key))


def _same_stream(old: CameraConfig, new: CameraConfig) -> bool:
    return all(
        getattr(old, key) == getattr(new, key) for key in CameraConfig.model_fields if key not in _WITHOUT_RESTART
    )


def _decision(config: Config, camera: CameraConfig) -> tuple[object, ...]:
    return camera.change_settings(config.change), camera.zones, camera.masks, config.events.jpeg_quality
