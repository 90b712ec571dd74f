"""SIGTERM and SIGINT, sent for real to a process that waits, loads or ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

STORM = """
import os, signal, subprocess, sys, threading, time
from streamwatch.daemon.signals import Signals

asked = threading.Event()
heard = 0

def stop():
    global heard
    heard += 1
    asked.set()

SENDER = "import os, sys, time\\nwhile True: os.kill(int(sys.argv[1]), int(sys.argv[2])); time.sleep(0.0001)"
with Signals() as signals:
    signals.deliver_to(stop)
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(os.getpid()), str(int(signal.{name}))])
    ends_s = time.monotonic() + 3
    while time.monotonic() < ends_s:
        asked.wait(0)
        asked.clear()
    sender.kill()
    sender.wait()
print(heard > 10)
"""

LOADING = """
import os, signal, time
from streamwatch.daemon.signals import Signals

with Signals() as signals:
    os.kill(os.getpid(), signal.{name})
    time.sleep(30)
    print("went on")
print("left")
"""

SWALLOWED = """
import os, signal, threading
from streamwatch.daemon.signals import Signals

asked = threading.Event()
with Signals() as signals:
    try:
        os.kill(os.getpid(), signal.{name})
    except BaseException:
        pass
    signals.deliver_to(asked.set)
    print(asked.wait(5))
"""


def output_of(script: str, name: str) -> str:
    command = [sys.executable, "-c", script.replace("{name}", name)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_storm_of_signals_on_a_thread_that_waits_for_them_locks_nothing_up(name: str) -> None:
    # Given a main thread that waits, again and again, for the very event that a signal sets
    # When another process sends it thousands of signals, then it hears of them and ends
    assert output_of(STORM, name) == "True\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_before_there_is_a_service_a_signal_leaves_the_block_without_an_error(name: str) -> None:
    assert output_of(LOADING, name) == "left\n"


def test_a_signal_that_a_library_swallowed_stops_the_service_as_soon_as_there_is_one() -> None:
    assert output_of(SWALLOWED, "SIGTERM") == "True\n"
