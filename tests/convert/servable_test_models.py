"""Classes with predict, in a module of their own as `save` wants it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


class Doubler:
    """Has nothing to keep."""

    def predict(self, x):
        return 2 * x


class Scaler:
    """Keeps a number, in a file of its own."""

    def __init__(self, factor):
        self.factor = factor

    def predict(self, x):
        return {"scaled": x * self.factor, "sign": np.sign(x).astype(np.int8)}

    def save(self, folder: Path):
        (folder / "factor.json").write_text(json.dumps(self.factor))

    @classmethod
    def load(cls, folder: Path):
        return cls(json.loads((folder / "factor.json").read_text()))


class Forgetful(Scaler):
    """Does not keep what it has to."""

    @classmethod
    def load(cls, folder: Path):
        return cls(1.0)


class Adder:
    def predict(self, x):
        return x["a"] + x["b"]


class Greeter:
    """Takes text."""

    def predict(self, x):
        return np.array(["hello " + name for name in x], object)


class Centred:
    """Its rows influence each other."""

    def predict(self, x):
        return x - x.mean(axis=0)


class Declared:
    signature = {"inputs": {"x": ("FP64", [-1, -1])}, "outputs": {"outputs": ("FP64", [-1])}}  # noqa: RUF012

    def predict(self, x):
        return x.sum(axis=1)


class Stateful:
    """Has a state, and nothing that keeps it."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def predict(self, x):
        return x * self.factor


class NeedsArguments:
    def __init__(self, factor):
        pass

    def predict(self, x):
        return x


class SaveOnly:
    def save(self, folder):
        pass

    def predict(self, x):
        return x


class WritesModelPy(Doubler):
    def save(self, folder):
        (folder / "model.py").write_text("")

    @classmethod
    def load(cls, folder):
        return cls()


class Random:
    def predict(self, x):
        return x + random.random()


class Fails:
    def predict(self, x):
        raise KeyError("age")


def make_local():
    class Local(Doubler):
        pass

    return Local()
