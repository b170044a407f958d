"""Real tables with gaps, and a small one of every kind of column."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris


def with_gaps(values, seed=0):
    """The same as float32 could hold it, with one value in ten missing."""
    values = np.asarray(values, np.float32).astype(np.float64)
    values[np.random.default_rng(seed).random(values.shape) < 0.1] = np.nan
    return values


IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = with_gaps(IRIS)
NAMES = load_iris().target_names[SPECIES]
TUMOURS, BENIGN = load_breast_cancer(return_X_y=True)
TUMOURS = with_gaps(TUMOURS)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
DIABETES = with_gaps(DIABETES)


def people(rows=200):
    """Ages and jobs with gaps, a flag, and grades; what they earn."""
    draw = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "age": draw.normal(40, 10, rows).round(),
            "job": draw.choice(["chef", "nurse", "pilot", "Ärztin"], rows),
            "grade": draw.choice([3, 5, 9], rows),
            "member": draw.random(rows) > 0.5,
        }
    )
    factors = table["job"].map({"chef": 1.0, "nurse": -3.0, "pilot": 5.0, "Ärztin": 2.0})
    earns = (factors + table["grade"] + table["age"] / 10).to_numpy()
    for column in ("age", "job"):
        table.loc[draw.random(rows) < 0.15, column] = np.nan
    return table, earns


PEOPLE, EARNS = people()
RICH = (np.median(EARNS) < EARNS).astype(int)


def strangers():
    """The same people, some of whom have jobs that nobody had in training."""
    table = PEOPLE.copy()
    table.loc[::3, "job"] = "diver"
    return table


def sent(table):
    """A table as it is sent: one array a column, '' for a missing string."""
    columns = {}
    for name in table:
        column = table[name]
        kind = column.cat.categories.dtype if column.dtype == "category" else column.dtype
        strings = str(kind).startswith(("str", "object"))
        columns[str(name)] = (column.astype(object).fillna("") if strings else column).to_numpy()
    return columns
