"""Servers elsewhere: versions that run in a process of their own, asked over the Open Inference Protocol."""

from servable.replicas.process import ProcessLoader

__all__ = ["ProcessLoader"]
