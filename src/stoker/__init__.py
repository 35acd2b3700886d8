"""Stoker: an agentic-AI platform from one file. See docs/concepts.md for the map of the packages."""

__version__ = "0.1.0"
