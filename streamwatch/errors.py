"""Everything that streamwatch raises on purpose. A message says what was got, what was expected and what to do next.

StreamwatchError                 exit code
├── UsageError                   2   options that do not go together
├── ConfigError                  2   the YAML file: syntax, unknown key, value out of range
├── SourceError                  3   a camera, file or folder
│   ├── SourceLost                   reopening may help (camera rebooted, network gone)
│   │   └── SourceTimeout            … it went silent
│   └── SourceUnusable               reopening cannot help (no such file, no video in it)
│       └── SourceUnauthorized       … the camera refused the password
├── WeightsError                 4   networks and weights files
│   ├── UnknownNetwork, UnknownLayer
│   ├── WeightsMissing               not at hand and not to be downloaded
│   ├── WeightsHashMismatch          not the bytes that were expected
│   ├── WeightsInvalid               wrong tensors, or a pickle that is more than tensors
│   ├── WeightsMismatch              memory or gallery written with other weights
│   └── EmbedderFailed               the network failed while it ran, also when built anew
├── OutputError                  5   a folder or file that cannot be written
├── PortUnavailable              5   the metrics port
└── MissingLibrary               6   a shared library or package that the machine lacks
"""

from __future__ import annotations


class StreamwatchError(Exception):
    """The root of the tree. `str()` of any of them is one clear message for the user."""

    exit_code = 1


class UsageError(StreamwatchError):
    """Options that do not go together, or a value that an option does not take."""

    exit_code = 2


class ConfigError(StreamwatchError):
    """The configuration cannot be used; the message names the file, the key and the nearest known key."""

    exit_code = 2


class SourceError(StreamwatchError):
    """A source gave no pictures. Messages never hold a password."""

    exit_code = 3


class SourceLost(SourceError):
    """Reopening may help."""


class SourceTimeout(SourceLost):
    """The source was silent for longer than its timeout."""


class SourceUnusable(SourceError):
    """Reopening cannot help: no such file, no video track, unknown codec."""


class SourceUnauthorized(SourceUnusable):
    """The camera refused the user name or password."""


class WeightsError(StreamwatchError):
    """A network or its weights cannot be used."""

    exit_code = 4


class UnknownNetwork(WeightsError):
    """No network of that name."""


class UnknownLayer(WeightsError):
    """The network, or the weights file, has no such layer."""


class WeightsMissing(WeightsError):
    """The weights are neither on this machine nor to be downloaded; the message names the file to bring."""


class WeightsHashMismatch(WeightsError):
    """The file's SHA-256 is not the one expected; it was not parsed."""


class WeightsInvalid(WeightsError):
    """The file is no weights file for this network: wrong names, shapes, or a pickle that is more than tensors."""


class WeightsMismatch(WeightsError):
    """Vectors of different weights were about to be compared."""


class EmbedderFailed(WeightsError):
    """The network failed while it ran, again and again, also when built anew."""


class OutputError(StreamwatchError):
    """A folder or file cannot be written."""

    exit_code = 5


class PortUnavailable(StreamwatchError):
    """The port for metrics and health is taken or not allowed."""

    exit_code = 5


class MissingLibrary(StreamwatchError):
    """A shared library or package is not installed on this machine."""

    exit_code = 6
