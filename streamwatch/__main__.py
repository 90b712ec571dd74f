"""`python -m streamwatch`."""

from streamwatch.cli import run

run()
