"""Multimodal, multi-task training under a curriculum that decides while training runs."""

__version__ = "0.1.0"
