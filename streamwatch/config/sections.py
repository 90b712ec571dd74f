"""The sections of the configuration. The sentence under each key is what site.yaml and docs/configuration.md say of
it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from streamwatch.config.values import (
    Confirm,
    FilePath,
    Listen,
    ListenAddress,
    Number,
    Persistence,
    Polygon,
    Whole,
    check_url,
    duration,
    is_network_url,
    read_password,
    weights_name,
)
from streamwatch.urls import redact, scheme_of, split_credentials

Threshold = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
Cooldown = Annotated[float, BeforeValidator(duration(least="0s", most="30d"))]

PAPER_PRESET: dict[str, object] = {"regions": "frame", "unit_length": False, "confirm": 1, "remember": "recent"}
"""What `change.method: paper` changes the defaults of the section's other keys to; `layer` becomes fc7."""


class Section(BaseModel):
    """Keys of one level: unknown ones are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class ChangeConfig(Section):
    """When a change is worth a new label."""

    method: Literal["regions", "paper"] = "regions"
    """How a change is told: `regions` compares places of the frame; `paper` compares whole frames, and changes the
    defaults of the
    keys below to regions: frame, unit_length: false, confirm: 1, remember: recent, and of layer to fc7."""

    regions: Literal["layer", "frame"] = "layer"
    """What is compared: every place of the network's `layer`, or the `frame` as one."""

    unit_length: bool = True
    """Whether vectors are scaled to length 1 before they are compared, which makes brighter and darker light matter
    less."""

    threshold: Threshold | None = None
    """The squared Euclidean distance to every remembered state above which a change counts; without it, the network's
    own."""

    confirm: Confirm = Persistence(min_samples=6)
    """How long a change must last before it counts: a number of samples, or a duration of the stream (then never fewer
    than three samples)."""

    cooldown: Cooldown = 0.0
    """How long after an event the same camera raises no other."""

    remember: Literal["states", "recent"] = "states"
    """What a frame is compared with: all remembered `states` of the scene, or only the most `recent` frames."""

    recent: Annotated[Whole, Field(ge=1, le=1_000)] = 32
    """How many frames are kept, in memory, with remember: recent."""

    max_states: Annotated[Whole, Field(ge=1, le=100_000)] = 512
    """How many states each camera remembers; past it, the one that was matched longest ago is forgotten."""

    announce_first: bool = False
    """Whether the first state that a camera ever shows raises an event too."""

    @model_validator(mode="before")
    @classmethod
    def _paper(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("method") == "paper":
            return {**PAPER_PRESET, **values}
        return values


class EventsConfig(Section):
    """Where events go."""

    jsonl: str = "events.jsonl"
    """The file that gets one line of JSON for each event, relative to data_dir; `-` is standard output."""

    jpeg_quality: Annotated[Whole, Field(ge=50, le=100)] = 90
    """The JPEG quality of the events' pictures, 50 to 100."""

    @field_validator("jsonl")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not value.strip() or "\0" in value or value.endswith("/"):
            raise ValueError("expected a file name, or - for standard output")
        return value


class MetricsConfig(Section):
    """Prometheus metrics and health."""

    listen: Listen = ListenAddress(host="127.0.0.1", port=9108)
    """The address that serves /metrics, /healthz and /readyz; only loopback addresses are accepted; `null` serves
    none."""


class CameraChangeConfig(Section):
    """What one camera does otherwise than the change section."""

    threshold: Threshold | None = None
    """This camera's threshold, where it differs from the change section's."""

    confirm: Confirm | None = None
    """This camera's confirm, where it differs from the change section's."""

    cooldown: Cooldown | None = None
    """This camera's cooldown, where it differs from the change section's."""


def _camera_name(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("expected 1 to 64 of the signs A-Z a-z 0-9 _ -")
    return value


def _hwaccel(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,32}", value):
        raise ValueError("expected the name of an FFmpeg hardware decoder, such as vaapi, cuda or qsv")
    return value


class CameraConfig(Section):
    """One camera, file or folder of images."""

    name: Annotated[str, BeforeValidator(_camera_name)]
    """The camera's name in events, metrics and folders; names differ in more than upper and lower case."""

    url: Annotated[str, BeforeValidator(check_url)] = Field(repr=False)
    """Where its pictures come from: an RTSP, HTTP or UDP URL, a video file, a folder of images,
    /dev/video0, or a USB camera's index."""

    username: str | None = Field(default=None, repr=False)
    """The user that the camera asks for."""

    password_file: FilePath | None = None
    """A file that holds the camera's password in one line; better than password, as it can be readable for the daemon
    only."""

    password: SecretStr | None = Field(default=None, validate_default=True)
    """The camera's password; `${VAR}` takes it from the environment."""

    every: Annotated[float, BeforeValidator(duration(least="10ms", most="24h"))] = 2.0
    """The sampling period: one frame is looked at each time it has passed."""

    decode: Literal["auto", "keyframes", "all"] = "auto"
    """What is decoded: `auto` decodes key frames only wherever they come often enough, which costs about a tenth of
    `all`."""

    kind: Literal["auto", "still", "live-folder"] = "auto"
    """What the URL is, where it does not tell by itself: `still`, an HTTP address of one picture, asked for anew each
    `every`; `live-folder`, a folder that pictures are still written into."""

    transport: Literal["auto", "tcp", "udp"] = "auto"
    """How RTSP brings its packets: over `tcp`, over `udp`, or with `auto` over UDP only where the camera refuses
    TCP."""

    hwaccel: Annotated[str, AfterValidator(_hwaccel)] | None = None
    """The FFmpeg hardware decoder to use, such as vaapi, cuda or qsv; without it, the CPU decodes."""

    open_timeout: Annotated[float, BeforeValidator(duration(least="100ms", most="10m"))] = 5.0
    """How long opening the camera may take before it is tried again."""

    read_timeout: Annotated[float, BeforeValidator(duration(least="100ms", most="10m"))] = 10.0
    """How long an open camera may be silent before it is opened again."""

    realtime: bool = False
    """Whether a file is played at its own speed, as if it were a camera; for files only."""

    offline_after: Annotated[float, BeforeValidator(duration(least="1s", most="24h"))] = 30.0
    """How long a camera may be without a picture before it is reported as offline."""

    zones: tuple[Polygon, ...] = ()
    """Polygons of points [x, y], in fractions of the picture from its upper left corner, outside of which changes do
    not count."""

    masks: tuple[Polygon, ...] = ()
    """Polygons of points [x, y], in fractions of the picture from its upper left corner, inside of which changes do
    not count."""

    change: CameraChangeConfig = CameraChangeConfig()
    """What this camera does otherwise than the change section."""

    @model_validator(mode="before")
    @classmethod
    def _userinfo(cls, values: Any) -> Any:
        """Take the user and password out of the URL, so that no log, metric or event can show them."""
        if not isinstance(values, dict):
            return values
        if "change" in values and values["change"] is None:  # `change:` with all its keys commented out
            values = {key: value for key, value in values.items() if key != "change"}
        # `password: &x` is an anchor on nothing, and `${VAR}` may hold nothing: refused, not taken for none.
        user, file = values.get("username"), values.get("password_file")
        if user is not None and file is None and "password" in values and values["password"] is None:
            values = {**values, "password": ""}
        taken = any(values.get(key) is not None for key in ("username", "password", "password_file"))
        if taken or not isinstance(values.get("url"), str):
            return values
        url, username, password = split_credentials(values["url"].strip())
        if username is None:
            return values
        # An empty one that stands in the URL is meant.
        secret = None if password is None else SecretStr(password)
        return {**values, "url": url, "username": username, "password": secret}

    @field_validator("username", "password_file", mode="after")
    @classmethod
    def _for_network(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url")
        if value is not None and url is not None and not is_network_url(url):
            raise ValueError("is for network cameras only: files, folders and USB cameras ask for no password")
        if isinstance(value, Path):
            read_password(value)
        return value

    @field_validator("password", mode="before")
    @classmethod
    def _no_empty_password(cls, value: object, info: ValidationInfo) -> object:
        if value == "" and info.data.get("username") is not None:
            raise ValueError("is empty; put it in quotes")
        return value

    @field_validator("password", mode="after")
    @classmethod
    def _password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        file: Path | None = info.data.get("password_file")
        if value is not None and file is not None:
            raise ValueError("is given together with password_file: keep one of them")
        if file is not None:
            value = SecretStr(read_password(file))
        if value is not None and "username" in info.data and info.data["username"] is None:
            raise ValueError("expected a username to go with the password")
        return value

    @field_validator("realtime")
    @classmethod
    def _files_only(cls, value: bool, info: ValidationInfo) -> bool:
        url = info.data.get("url", "")
        if value and (is_network_url(url) or url.isdecimal() or url.startswith("/dev/")):
            raise ValueError("is for files only: a camera is always real time")
        return value

    @field_validator("kind")
    @classmethod
    def _fits_url(cls, value: str, info: ValidationInfo) -> str:
        url = str(info.data.get("url", ""))
        if value == "still" and url and scheme_of(url) not in {"http", "https"}:
            raise ValueError("still is for http:// and https:// addresses only")
        if value == "live-folder" and url and (is_network_url(url) or url.isdecimal()):
            raise ValueError("live-folder is for folders of this machine only")
        return value

    @property
    def safe_url(self) -> str:
        """The URL for logs and people: no user, no password, no values of its query."""
        return redact(self.url)

    def change_settings(self, site: ChangeConfig) -> ChangeConfig:
        """The site's change section with this camera's own values in it."""
        own = {key: getattr(self.change, key) for key in CameraChangeConfig.model_fields}
        return site.model_copy(update={key: value for key, value in own.items() if value is not None})

    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        yield "safe_url", self.safe_url


def _device(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", value):
        raise ValueError("expected auto, cpu, cuda, or one GPU such as cuda:1")
    return value


class Config(Section):
    """The whole file."""

    data_dir: FilePath = Field(default=Path("streamwatch-data"), validate_default=True)
    """The folder that keeps pictures, memory, events and the network's choice."""

    network: Annotated[str, Field(min_length=1)] = "auto"
    """The network that looks at the frames: vgg16, vgg19, lite0, or `auto` (vgg16 where its weights or a GPU are at
    hand, else lite0)."""

    weights: Annotated[str, BeforeValidator(weights_name)] | None = None
    """The network's weights: a name that is downloaded, or the path of a .safetensors or .pth file; without it, the
    network's usual ones."""

    layer: Annotated[str, Field(min_length=1)] | None = None
    """The layer whose numbers are compared; without it, the network's best for change."""

    device: Annotated[str, BeforeValidator(_device)] = "auto"
    """Where the network runs: cpu, cuda, one GPU such as cuda:1, or `auto` (a GPU where there is one)."""

    fit: Literal["squash", "crop", "letterbox"] = "squash"
    """How a frame is brought to the network's square: `squash` it, `crop` its middle, or `letterbox` it with
    borders."""

    change: ChangeConfig = ChangeConfig()
    """When a change is worth a new label."""

    events: EventsConfig = EventsConfig()
    """Where events go."""

    metrics: MetricsConfig = MetricsConfig()
    """Prometheus metrics and health."""

    cameras: Annotated[tuple[CameraConfig, ...], Field(min_length=1)]
    """The cameras, files and folders to watch."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # `change:` with all its keys commented out is null in YAML: the section's defaults are meant.
        values = {
            key: value
            for key, value in values.items()
            if value is not None or key not in ("change", "events", "metrics")
        }
        change = values.get("change")
        if isinstance(change, dict) and change.get("method") == "paper" and values.get("layer") is None:
            values["layer"] = "fc7"
        return values

    @property
    def jsonl_path(self) -> Path | None:
        """Where event lines go; None is standard output."""
        return None if self.events.jsonl == "-" else self.data_dir / Path(self.events.jsonl).expanduser()
