"""From what the user wrote to a weights file whose hash is checked. Parses no file, loads no torch.

What the user writes is a known name (`imagenet1k_v1`, `VGG16_Weights.IMAGENET1K_FEATURES`, `embedded`) or the path of a
.safetensors or .pth file; `#sha256=HEX` behind either demands that hash.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamwatch.embedding.download import Progress, download
from streamwatch.embedding.known import BASE_URL, KnownWeights, embedded_file, known_weights
from streamwatch.embedding.networks import Network, nearest
from streamwatch.errors import UsageError, WeightsHashMismatch, WeightsInvalid, WeightsMissing

SUFFIXES = (".safetensors", ".pth", ".pt")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file at hand, its hash found to be the one expected (where one was)."""

    path: Path
    sha256: str
    """All 64 hex digits of this file's bytes."""

    known: KnownWeights | None
    """None for the user's own file."""

    @property
    def id(self) -> str:
        """Names the numbers, for records: `sha256:` and 16 hex digits."""
        return f"sha256:{self.sha256[:16]}"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloaded weights are kept: $XDG_CACHE_HOME/streamwatch/weights, else ~/.cache/streamwatch/weights."""
    return _user_cache(environ) / "streamwatch" / "weights"


def torch_hub_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where torchvision keeps what it has downloaded; only read here, never written."""
    home = environ.get("TORCH_HOME")
    return (Path(home) if home else _user_cache(environ) / "torch") / "hub" / "checkpoints"


def _user_cache(environ: Mapping[str, str]) -> Path:
    folder = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits.

    Raises:
        WeightsMissing: There is no such file.
        WeightsInvalid: It is a folder, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        raise WeightsMissing(f"there is no weights file {path}; check the path, or name known weights") from None
    except IsADirectoryError:
        raise WeightsInvalid(f"{path} is a folder, expected a {' or '.join(SUFFIXES[:2])} file in it") from None
    except OSError as error:
        raise WeightsInvalid(f"the weights file {path} cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def split_hash(weights: str) -> tuple[str, str | None]:
    """`path#sha256=HEX` as (path, hex), or (path, None) where no hash is demanded.

    Raises:
        UsageError: What stands behind `#sha256=` is not 64 hex digits.
    """
    name, mark, digits = weights.rpartition("#sha256=")
    return (name, _full_hash(digits)) if mark else (weights, None)


def _full_hash(digits: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise UsageError(f"sha256 is {digits!r}, expected 64 hex digits as sha256sum prints them")
    return digits.lower()


def find_cached(known: KnownWeights, *, cache: Path | None = None, hub: Path | None = None) -> WeightsFile | None:
    """Known weights that are already on this machine, or None. The file is hashed on every call.

    Raises:
        WeightsHashMismatch: streamwatch's own cache holds other bytes under that name.
    """
    if not known.downloadable:
        return _checked(embedded_file(), known=known, expected=known.sha256)
    own = (cache or cache_folder()) / known.file
    if own.is_file():
        return _checked(own, known=known, expected=known.sha256)
    shared = (hub or torch_hub_folder()) / known.file
    try:
        return _checked(shared, known=known, expected=known.sha256)
    except (WeightsMissing, WeightsInvalid, WeightsHashMismatch):
        return None  # Somebody else's folder: what does not fit there is not ours to complain about.


def locate(
    network: Network,
    weights: str | None = None,
    *,
    sha256: str | None = None,
    cache: Path | None = None,
    hub: Path | None = None,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
) -> WeightsFile:
    """Find the weights file, downloading it where it is known by name and not at hand, and check its hash.

    Args:
        network: Whose weights; None for `weights` means its default ones.
        weights: A known name or a path, `#sha256=HEX` allowed behind it.
        sha256: The hash demanded, 64 hex digits.
        cache: Folder for downloads; `cache_folder()` if None.
        hub: torch hub's checkpoints folder; `torch_hub_folder()` if None.
        base_url: Where downloads come from, with a closing slash.
        progress: Hears of a download's bytes.

    Raises:
        UsageError: A hash that is none, or two different ones.
        WeightsMissing: No such file or name, or the download failed.
        WeightsHashMismatch: The bytes are not the ones expected.
        OutputError: The cache folder cannot be written.
    """
    name, demanded = (None, None) if weights is None else split_hash(weights)
    if sha256 is not None:
        sha256 = _full_hash(sha256)
        if demanded not in (None, sha256):
            raise UsageError(f"two different hashes are demanded: {demanded} and {sha256}; keep one of them")
        demanded = sha256
    known = known_weights(network.name, name)
    if known is None:
        if name is None:
            raise WeightsMissing(f"{network.title} has no weights of its own: {network.bring}")
        return _checked(_own_path(network, name), known=None, expected=demanded or "")
    found = find_cached(known, cache=cache, hub=hub)
    if found is None:
        target = (cache or cache_folder()) / known.file
        download(base_url + known.file, target, sha256=demanded or known.sha256, progress=progress)
        found = _checked(target, known=known, expected=known.sha256)
    if demanded is not None and found.sha256 != demanded:
        raise _mismatch(found.path, got=found.sha256, expected=demanded)
    return found


def locate_file(weights: str, *, sha256: str | None = None) -> WeightsFile:
    """The user's own file, `#sha256=HEX` allowed behind its path; its hash is checked.

    Raises:
        UsageError: A hash that is none.
        WeightsMissing: There is no such file.
        WeightsInvalid: It cannot be read.
        WeightsHashMismatch: The bytes are not the ones expected.
    """
    name, demanded = split_hash(weights)
    if sha256 is not None and demanded not in (None, _full_hash(sha256)):
        raise UsageError(f"two different hashes are demanded: {demanded} and {sha256}; keep one of them")
    expected = demanded or (_full_hash(sha256) if sha256 is not None else "")
    return _checked(Path(name).expanduser(), known=None, expected=expected)


def _own_path(network: Network, name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir() or path.suffix.lower() in SUFFIXES or path.exists():
        return path
    names = ", ".join(network.weights)
    if not names:
        raise WeightsMissing(f"there is no weights file {name}; {network.bring}")
    raise WeightsMissing(
        f"{network.title} has no weights called {name!r}{nearest(name, network.weights)}, and there is no such file; "
        f"known are {names}, and paths of {' and '.join(SUFFIXES[:2])} files"
    )


def _checked(path: Path, *, known: KnownWeights | None, expected: str) -> WeightsFile:
    got = file_sha256(path)
    if not got.startswith(expected):
        raise _mismatch(path, got=got, expected=expected)
    return WeightsFile(path=path, sha256=got, known=known)


def _mismatch(path: Path, *, got: str, expected: str) -> WeightsHashMismatch:
    begins = "beginning with " if len(expected) < 64 else ""
    return WeightsHashMismatch(
        f"{path} has SHA-256 {got}, expected one {begins}{expected}; the file was not parsed. "
        "Replace it with the right one (a cached file may simply be removed: it is downloaded again)"
    )
