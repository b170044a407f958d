"""How far two answers may be apart and still count as the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable.errors import InvalidArgument
from servable.wire.tensors import datatypes

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Tolerance:
    """Values agree where `|a - b| <= absolute + relative * |b|`, b being the expected one.

    Raises:
        InvalidArgument: One of the two is negative or not finite.
    """

    absolute: float
    relative: float

    def __post_init__(self) -> None:
        if not all(0 <= limit < float("inf") for limit in (self.absolute, self.relative)):
            raise InvalidArgument(
                f"A tolerance has two finite numbers from 0 on, not {self.absolute} and {self.relative}"
            )


EXACT = Tolerance(0.0, 0.0)

# A few hundred roundings in float32 stay within these; another order of preprocessing steps does not.
DEFAULTS: dict[str, Tolerance] = {
    "FP64": Tolerance(1e-7, 1e-6),
    "FP32": Tolerance(1e-5, 1e-4),
    "FP16": Tolerance(1e-3, 1e-2),
    "BF16": Tolerance(1e-2, 5e-2),
    "COMPLEX128": Tolerance(1e-7, 1e-6),
    "COMPLEX64": Tolerance(1e-5, 1e-4),
}


def tolerance_of(datatype: str, tolerance: Mapping[str, Tolerance] | None = None) -> Tolerance:
    """The tolerance of a datatype: the given one, else the default; integers, booleans and strings must be equal.

    Example:
        >>> tolerance_of("INT64").absolute
        0.0
    """
    return (tolerance or {}).get(datatype) or DEFAULTS.get(datatype, EXACT)


def check_tolerance(tolerance: Mapping[str, Tolerance] | None) -> dict[str, Tolerance]:
    """A user's tolerances again; none for None.

    Raises:
        InvalidArgument: A name is not that of a datatype, or a value is no Tolerance.
    """
    known = datatypes()
    for datatype, limit in (tolerance or {}).items():
        if datatype not in known:
            raise InvalidArgument(f"tolerance= is by datatype; '{datatype}' is none", hint=f"one of {', '.join(known)}")
        if not isinstance(limit, Tolerance):
            raise InvalidArgument(f"The tolerance of {datatype} must be a Tolerance(absolute, relative)")
    return dict(tolerance or {})


def tolerance_from_json(data: Mapping[str, Any]) -> dict[str, Tolerance]:
    """Reads `{"FP32": {"absolute": 1e-5, "relative": 1e-4}}`; raises InvalidArgument for another form."""
    out = {}
    for datatype, limits in data.items():
        match limits:
            case {"absolute": float() | int() as absolute, "relative": float() | int() as relative}:
                out[datatype] = Tolerance(float(absolute), float(relative))
            case _:
                raise InvalidArgument(f"The tolerance of {datatype} needs the numbers 'absolute' and 'relative'")
    return out
