"""The commands and their exit codes; no logic. What a command needs is imported when it runs.

Exit codes: 0 done · 1 a bug, or `doctor` found something that would not work · 2 options or configuration · 3 a video
or camera · 4 network or weights · 5 a folder, file or port · 6 a missing library · 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from streamwatch import __version__
from streamwatch.errors import OutputError, StreamwatchError

_EXIT_CODES = """exit codes:
  0    done
  1    a bug in streamwatch, or doctor found something that would not work
  2    wrong options or configuration
  3    a video or camera that cannot be read
  4    a network or weights file that cannot be used
  5    a folder or file that cannot be written, or a port that is taken
  6    a missing library
  130  interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    # To be set before torch is loaded. By default its threads spin while they wait for each other; wherever another
    # thread needs the core (the decoder does), one picture of Lite0 then took 131 ms instead of 12.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _show_what_cannot_be_encoded()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except StreamwatchError as error:
        print(f"streamwatch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("streamwatch: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Nothing else may end so: what reads or writes files for the user says which file it was.
        if error.errno != errno.ENOSPC:
            raise
        print(f"streamwatch: cannot write to standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OutputError.exit_code


def run() -> NoReturn:
    """The program: `main`, then the end of the process.

    Python's own way out takes torch apart first, which on a busy machine took four of the five seconds that a stop may
    last. Everything is written and closed by now.
    """
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        print(f"streamwatch: cannot write to standard output: {error.strerror or error}", file=sys.stderr)
        code = code or OutputError.exit_code
    sys.stderr.flush()
    os._exit(code)


def _show_what_cannot_be_encoded() -> None:
    """Let broken bytes of a file's name be printed as escapes, as on standard error, rather than end the command."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamwatch",
        description="Watches fixed cameras and says when the footage has changed so much that a new label is needed.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamwatch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    watch = _command(commands, "watch", "watch cameras until told to stop", "streamwatch watch --config site.yaml")
    watch.add_argument("--config", type=Path, required=True, metavar="FILE", help="the YAML configuration")
    watch.add_argument(
        "--stop-at-end", action="store_true", help="stop when every camera is a file or folder and has come to its end"
    )
    watch.add_argument("--verbose", action="store_true", help="log more")
    watch.set_defaults(run=_watch)

    scan = _command(
        commands, "scan", "find the changes in video files", "streamwatch scan --every 2s --out found monday.mp4"
    )
    scan.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, or folders of images")
    scan.add_argument(
        "--config", type=Path, metavar="FILE", help="take network and change settings from this configuration"
    )
    scan.add_argument(
        "--camera", metavar="NAME", help="also take zones, masks and change settings of this camera (with --config)"
    )
    scan.add_argument("--network", metavar="NAME", help="auto, vgg16, vgg19 or lite0 (default: auto)")
    scan.add_argument("--weights", metavar="NAME|FILE", help="weights by name, or a .safetensors or .pth file")
    scan.add_argument("--layer", metavar="NAME", help="layer of the network (default: the network's own)")
    scan.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    scan.add_argument("--every", metavar="TIME", help="sampling period, such as 300ms, 2s or 1m (default: 1s)")
    scan.add_argument("--threshold", type=float, metavar="NUMBER", help="squared distance above which a change counts")
    scan.add_argument("--decode", choices=("auto", "keyframes", "all"), help="which frames are decoded (default: auto)")
    scan.add_argument(
        "--out",
        type=Path,
        default=Path("streamwatch-scan"),
        metavar="FOLDER",
        help="where report.html and the pictures go (default: streamwatch-scan)",
    )
    scan.add_argument("--json", action="store_true", help="print one JSON object a video instead of tables")
    scan.add_argument("--csv", type=Path, metavar="FILE", help="also write the events to this CSV file")
    scan.set_defaults(run=_scan)

    _gallery_commands(commands)
    _eval_command(commands)

    check = _command(
        commands, "check-config", "check a configuration file", "streamwatch check-config /etc/streamwatch/site.yaml"
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the YAML configuration")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(run=_check_config)

    doctor = _command(
        commands,
        "doctor",
        "see whether all that is needed is there and answers",
        "streamwatch doctor --config site.yaml",
    )
    doctor.add_argument("--config", type=Path, metavar="FILE", help="also check what this configuration names")
    doctor.add_argument("--json", action="store_true", help="print the result as JSON")
    doctor.set_defaults(run=_doctor)

    demo = _command(commands, "demo", "watch a simulated construction yard", "streamwatch demo")
    demo.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="another configuration, of one camera whose file is made (default: its own, which writes to ./demo-out)",
    )
    demo.add_argument("--seed", type=int, default=0, help="another yard, light and noise (default: 0)")
    demo.set_defaults(run=_demo)

    _weights_commands(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _gallery_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    index = _command(
        commands, "index", "make a searchable gallery of pictures", "streamwatch index photos --gallery photos.lance"
    )
    index.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="folders of images, and those below them"
    )
    index.add_argument(
        "--gallery", type=Path, required=True, metavar="FOLDER", help="made, or added to where it is there"
    )
    index.add_argument("--boxes", type=Path, metavar="FILE", help="index crops too: a CSV of path, x, y, width, height")
    index.add_argument("--network", metavar="NAME", help="auto, vgg16, vgg19 or lite0 (default: auto)")
    index.add_argument("--weights", metavar="NAME|FILE", help="weights by name, or a .safetensors or .pth file")
    index.add_argument("--layer", metavar="NAME", help="layer of the network (default: fc7 of VGG, features of lite0)")
    index.add_argument("--pooling", metavar="NAME", help="mean, max, gem, rmac or flat (default: mean)")
    index.add_argument("--raw", action="store_true", help="leave the vectors' lengths as they are (default: length 1)")
    index.add_argument(
        "--fit", metavar="NAME", help="squash, crop or letterbox to the network's shape (default: squash)"
    )
    index.add_argument("--half", action="store_true", help="store half precision")
    index.add_argument("--regional", action="store_true", help="store vectors of windows too, for `search --regional`")
    index.add_argument(
        "--ann", action="store_true", help="build the approximate index, for what does not fit the memory"
    )
    index.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    index.add_argument("--batch", type=int, metavar="N", help="pictures that go through the network at once")
    index.add_argument("--flush", type=int, default=512, metavar="N", help="pictures a transaction (default: 512)")
    index.add_argument("--flush-s", type=float, default=10.0, metavar="S", help="… or so many seconds (default: 10)")
    index.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    index.set_defaults(run=_index)

    search = _command(
        commands,
        "search",
        "find the pictures of a gallery that are most like others",
        "streamwatch search photos.lance crane.jpg --box 40,25,300,200 --out sheet.html",
    )
    search.add_argument("gallery", type=Path, metavar="GALLERY", help="made with `streamwatch index`")
    search.add_argument("queries", nargs="+", type=Path, metavar="QUERY", help="images, or folders of them")
    search.add_argument("--box", metavar="X,Y,W,H", help="take this part of each query, in pixels")
    search.add_argument("--top", type=int, default=10, metavar="N", help="results a query (default: 10)")
    search.add_argument(
        "--metric", default="sqeuclidean", metavar="NAME", help="a metric of SciPy's (default: sqeuclidean)"
    )
    search.add_argument("--regional", action="store_true", help="a picture is as near as its nearest window")
    search.add_argument("--others", action="store_true", help="leave out results that are the query's own file")
    search.add_argument("--weights", metavar="NAME|FILE", help="the gallery's weights, where they are no longer found")
    search.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    search.add_argument("--ann", action="store_true", help="search by the approximate index of `index --ann`")
    search.add_argument(
        "--probes", type=int, default=64, metavar="N", help="with --ann: parts looked into (default: 64)"
    )
    search.add_argument(
        "--refine", type=int, default=20, metavar="N", help="with --ann: N × top are compared exactly (default: 20)"
    )
    search.add_argument("--json", action="store_true", help="print one JSON object a query instead of tables")
    search.add_argument("--out", type=Path, metavar="FILE", help="also write the results with pictures as an HTML page")
    search.set_defaults(run=_search)


def _weights_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    example = "streamwatch weights show vgg_cnn_m_2048.safetensors"
    weights = _command(commands, "weights", "import Caffe's networks, show what a weights file is", example)
    actions = weights.add_subparsers(metavar="ACTION", required=True)
    importing = _command(
        actions,
        "import",
        "make a weights file of Caffe's files",
        "streamwatch weights import --caffemodel VGG_CNN_M_2048.caffemodel --prototxt deploy.prototxt "
        "--mean VGG_mean.binaryproto --out vgg_cnn_m_2048.safetensors",
    )
    importing.add_argument("--caffemodel", type=Path, required=True, metavar="FILE", help="the numbers")
    importing.add_argument("--prototxt", type=Path, required=True, metavar="FILE", help="the deploy prototxt")
    importing.add_argument(
        "--mean", metavar="FILE|B,G,R", help="the mean image (.binaryproto) or three numbers (default: Oxford's three)"
    )
    importing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    importing.add_argument("--json", action="store_true", help="print what was made as JSON")
    importing.set_defaults(run=_weights_import)
    show = _command(actions, "show", "say what a weights file is: network, layers, pixels, id", example)
    show.add_argument("file", type=Path, metavar="FILE", help="a .safetensors or .pth file")
    show.add_argument("--network", metavar="NAME", help="whose it is, where the file does not tell")
    show.add_argument("--json", action="store_true", help="print it as JSON")
    show.set_defaults(run=_weights_show)


def _weights_import(options: argparse.Namespace) -> int:
    from streamwatch.embedding.weights_command import import_weights

    return import_weights(options)


def _weights_show(options: argparse.Namespace) -> int:
    from streamwatch.embedding.weights_command import show_weights

    return show_weights(options)


def _eval_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from streamwatch.offline.eval_options import EXAMPLE, add_options

    judged = _command(commands, "eval", "see how well distances agree with people about triplets of images", EXAMPLE)
    add_options(judged)
    judged.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> int:
    from streamwatch.offline.eval_command import evaluate_triplets

    return evaluate_triplets(options)


def _index(options: argparse.Namespace) -> int:
    from streamwatch.offline.gallery_command import index_folders

    return index_folders(options)


def _search(options: argparse.Namespace) -> int:
    from streamwatch.offline.search_command import search_gallery

    return search_gallery(options)


def _watch(options: argparse.Namespace) -> int:
    from streamwatch.daemon.signals import Signals

    with Signals(reloads=True) as signals:
        from streamwatch.daemon.command import set_up_logging, watch

        set_up_logging(level="DEBUG" if options.verbose else "INFO")
        watch(options.config, signals=signals, stop_at_end=options.stop_at_end)
    return 0


def _scan(options: argparse.Namespace) -> int:
    from streamwatch.offline.command import scan_videos

    return scan_videos(options)


def _check_config(options: argparse.Namespace) -> int:
    import json

    from streamwatch.checks import check_networks
    from streamwatch.config import load_config

    try:
        config = load_config(options.file, environ=os.environ)
        check_networks(config)
    except StreamwatchError as error:
        if not options.json:
            raise
        print(json.dumps({"file": str(options.file), "ok": False, "error": str(error)}))
        return error.exit_code
    names = [camera.name for camera in config.cameras]
    if options.json:
        print(json.dumps({"file": str(options.file), "ok": True, "cameras": names}))
    else:
        print(f"{options.file}: fine; {len(names)} camera{'s' * (len(names) != 1)}: {', '.join(names)}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console

    from streamwatch.config import load_config
    from streamwatch.daemon.service import open_camera
    from streamwatch.doctor import print_checks, run_checks, to_json, worst

    config = load_config(options.config, environ=os.environ) if options.config else None
    checks = run_checks(config, open_camera=open_camera)
    if options.json:
        print(to_json(checks))
    else:
        print_checks(checks, Console())
    return 1 if worst(checks) == "fail" else 0


def _demo(options: argparse.Namespace) -> int:
    from streamwatch.daemon.demo import demo

    return demo(options.config, seed=options.seed)


if __name__ == "__main__":
    run()
