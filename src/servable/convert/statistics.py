"""The feature statistics of a version that is being saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.model.reference_inputs import reference_inputs
from servable.model.signatures import find_signature
from servable.model.statistics import SignatureStatistics, describe_examples, describe_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable.model.golden import GoldenExample
    from servable.model.signatures import Signature


def version_statistics(
    given: Any, examples: Sequence[GoldenExample], signatures: Sequence[Signature]
) -> dict[str, SignatureStatistics]:
    """Of the training inputs where they are given, for the default signature; else of the examples.

    Raises:
        InvalidArgument: What is given are no inputs of that signature.
    """
    if given is None:
        return describe_examples(examples, {signature.name: signature.inputs for signature in signatures})
    signature = find_signature(tuple(signatures), None)
    return {signature.name: describe_tensors(reference_inputs(given, signature))}
