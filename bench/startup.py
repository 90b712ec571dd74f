"""CPU seconds until a command answers: `--help` and `check-config` load neither torch nor PyAV.

Runs each command as a process of its own, in turn, and takes the median of its user and system seconds.
"""

from __future__ import annotations

import sys
from functools import partial

from _common import ROOT, Check, Outcome, child_cpu_s, middle, options_of, show

HELP_S, CHECK_S = 0.3, 0.7


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each kind (default: 7)")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    python = [sys.executable]
    streamwatch = [*python, "-m", "streamwatch"]
    commands = {
        "streamwatch --help": [*streamwatch, "--help"],
        "streamwatch check-config": [*streamwatch, "check-config", str(ROOT / "configs" / "demo.yaml")],
        "python -c pass": [*python, "-c", "pass"],
        'python -c "import numpy"': [*python, "-c", "import numpy"],
    }
    runs = {name: partial(child_cpu_s, command) for name, command in commands.items()}
    for run in runs.values():  # the first run reads files that the others find in memory, and writes bytecode
        run()
    cpu_s: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            cpu_s[name].append(run())
    outcome = Outcome(
        bench="startup",
        claim="Commands that need no network start at once",
        settings={"rounds": rounds, "python": sys.version.split()[0]},
        rows=[
            {"command": name, "cpu_s": middle(values), "least": round(min(values), 3), "most": round(max(values), 3)}
            for name, values in cpu_s.items()
        ],
    )
    outcome.checks = [
        Check(name="--help, CPU seconds", value=outcome.rows[0]["cpu_s"], target=HELP_S),
        Check(name="check-config, CPU seconds", value=outcome.rows[1]["cpu_s"], target=CHECK_S),
    ]
    show(outcome, as_json=options.json)


if __name__ == "__main__":
    main()
