"""The options of `streamwatch eval`. Light: nothing is computed here."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """streamwatch eval triplets.csv --network lite0 --layer features --pooling gem --metric cosine
  streamwatch eval --compare monday/run.json 'tuesday#lite0/features/gem/cosine'

TRIPLETS.csv has the columns query, positive, negative and, if you like, class; paths are relative to its folder.
--out gets report.html, results.csv and run.json, which --compare reads. Of options that repeat, every combination is
evaluated."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything but `run`."""
    parser.add_argument("triplets", nargs="?", type=Path, metavar="TRIPLETS.csv", help="the list of triplets")
    parser.add_argument(
        "--root", type=Path, metavar="FOLDER", help="what its paths are relative to (default: its folder)"
    )
    parser.add_argument(
        "--network", action="append", metavar="NAME", help="a network by name (default: auto); repeatable"
    )
    parser.add_argument(
        "--weights",
        action="append",
        metavar="[NETWORK=]NAME|FILE",
        help="weights by name, or a .safetensors or .pth file: one for each network, in their order; repeatable",
    )
    parser.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="a layer; each network is cut at those that it has (default: features of lite0, fc7 of VGG, or pool5 "
        "where the weights end there); repeatable",
    )
    parser.add_argument(
        "--pooling",
        action="append",
        metavar="NAME",
        help="mean, max, gem, rmac, or flat for all places one after the other (default: mean); repeatable",
    )
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="a metric by SciPy's name, hamming-binary, or minkowski:P (default: sqeuclidean, cosine, hamming-binary); "
        "repeatable",
    )
    parser.add_argument("--unit-length", action="store_true", help="scale vectors to length 1 (default)")
    parser.add_argument("--raw", action="store_true", help="leave lengths as they are; both with --unit-length")
    parser.add_argument("--fit", default="squash", metavar="NAME", help="squash, crop or letterbox (default: squash)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--limit", type=int, metavar="N", help="only N triplets, spread over the list: a quick look")
    parser.add_argument("--top", type=int, default=30, metavar="K", help="K of the score at top K (default: 30)")
    parser.add_argument(
        "--class-sample", type=int, default=1000, metavar="N", help="images of the class to rank among (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap and sampling (default: 0)")
    parser.add_argument(
        "--best", type=float, default=10.0, metavar="%", help="ranks that count as best, for A to D (default: 10)"
    )
    parser.add_argument("--worst", type=float, default=10.0, metavar="%", help="… and as worst (default: 10)")
    parser.add_argument("--sheet", type=int, default=6, metavar="N", help="triplets shown of each region (default: 6)")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="where vectors are kept for the next run (default: vectors in the user's cache folder)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("streamwatch-eval"),
        metavar="FOLDER",
        help="where the report goes (default: streamwatch-eval)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the table as CSV (default: results.csv in --out)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="test two runs that are there (folder or run.json, #network/layer/pooling/metric for one of a run) on the "
        "triplets that both have",
    )
