"""The package's version, read once."""

from importlib.metadata import version

VERSION = version("sklearn_greedy")
