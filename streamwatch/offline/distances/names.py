"""The metrics by name. Light: nothing is computed here."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from types import MappingProxyType

from streamwatch.errors import UsageError

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "sqeuclidean": "Σ(x−y)²",
        "euclidean": "√Σ(x−y)²",
        "cosine": "1 − x·y / (‖x‖‖y‖)",
        "correlation": "cosine of the vectors less their own means",
        "cityblock": "Σ|x−y|",
        "chebyshev": "max|x−y|",
        "minkowski": "(Σ|x−y|ᵖ)^(1/p), p = 2; minkowski:3 has p = 3",
        "canberra": "Σ |x−y| / (|x|+|y|), 0 where both are 0",
        "braycurtis": "Σ|x−y| / Σ|x+y|",
        "seuclidean": "euclidean, each dimension divided by its variance over all vectors",
        "mahalanobis": "√((x−y)ᵀ C⁻¹ (x−y)), C the covariance over all vectors: needs more vectors than dimensions",
        "jensenshannon": "√ of the Jensen-Shannon divergence of x/Σx and y/Σy; for vectors without negative numbers",
        "hamming": "share of dimensions that differ, on the raw values",
        "hamming-binary": "share of dimensions that differ, on x > 0",
        "matching": "the same as hamming-binary: the name that SciPy once had for it",
        "dice": "on x > 0: differing / (2·both + differing)",
        "jaccard": "on x > 0: differing / (both + differing)",
        "rogerstanimoto": "on x > 0: 2·differing / (alike + 2·differing)",
        "sokalmichener": "the same as rogerstanimoto; SciPy dropped the name in 1.17",
        "sokalsneath": "on x > 0: 2·differing / (both + 2·differing)",
        "russellrao": "on x > 0: share of dimensions that are not in both",
        "yule": "on x > 0: 2·TF·FT / (TT·FF + TF·FT)",
        "kulsinski": "on x > 0: (differing − both + n) / (differing + n); SciPy dropped it in 1.17",
        "kulczynski1": "on x > 0: both / differing, which is large for the alike; SciPy dropped it in 1.17",
    }
)
"""Every metric with its formula."""

_ALIASES = {
    "euclid": "euclidean",
    "eu": "euclidean",
    "sqeuclid": "sqeuclidean",
    "sqe": "sqeuclidean",
    "cos": "cosine",
    "co": "correlation",
    "cblock": "cityblock",
    "cb": "cityblock",
    "manhattan": "cityblock",
    "cheb": "chebyshev",
    "cheby": "chebyshev",
    "chebychev": "chebyshev",
    "hamm": "hamming",
    "jacc": "jaccard",
    "js": "jensenshannon",
    "mahal": "mahalanobis",
    "mah": "mahalanobis",
    "pnorm": "minkowski",
    "mi": "minkowski",
    "se": "seuclidean",
}

BOOLEAN = frozenset(
    {
        "hamming-binary",
        "matching",
        "dice",
        "jaccard",
        "rogerstanimoto",
        "sokalmichener",
        "sokalsneath",
        "russellrao",
        "yule",
        "kulsinski",
        "kulczynski1",
    }
)
"""Those that act on `x > 0`."""

PRODUCTS = frozenset({"sqeuclidean", "euclidean", "seuclidean", "mahalanobis", "cosine", "correlation"})
"""Those of real numbers that a matrix product gives."""


def canonical(metric: str) -> str:
    """The metric's own name, `minkowski:P` included.

    Raises:
        UsageError: There is no such metric; the message has the nearest.
    """
    name, colon, exponent = metric.strip().lower().partition(":")
    name = _ALIASES.get(name, name)
    if name not in METRICS or (colon and name != "minkowski"):
        close = difflib.get_close_matches(name, [*METRICS, *_ALIASES], n=1)
        hint = f" (did you mean {_ALIASES.get(close[0], close[0])!r}?)" if close else ""
        raise UsageError(f"there is no metric {metric!r}{hint}; known are {', '.join(METRICS)}")
    if not colon:
        return name
    try:
        p = float(exponent)
    except ValueError:
        p = math.nan
    if not 1 <= p < math.inf:
        raise UsageError(f"metric is {metric!r}, expected minkowski:P with P from 1 on; for infinity take chebyshev")
    return f"minkowski:{p:g}"


def exponent(metric: str) -> float:
    """P of a canonical `minkowski:P`; 2 without."""
    return float(metric.partition(":")[2] or 2)
