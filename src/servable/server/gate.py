"""The gate of a model: a request log whose answers a new version has to give too, before it becomes available."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from servable.engines.native import runner
from servable.errors import GateMismatch
from servable.model.replay import replay
from servable.model.request_log import log_files, read_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.engines.load import Loaded
    from servable.model.request_log import LogRecord

logger = logging.getLogger(__name__)

_MOST_NAMED = 3
_MOST_LOOKED_AT = 100_000


def check_gate(model: str, version: int, loaded: Loaded, log: str, most_records: int) -> None:
    """Runs a loaded version on what was logged for its model.

    Where nothing was logged for it yet, which is so for every first version, it passes. So does a version that the log
    has answers of, or of a newer one: it is not new, and neither a restart nor a rollback is to be held up.

    Args:
        model: Its name.
        version: Its number.
        loaded: The version.
        log: The gate: a file, a folder or a glob.
        most_records: How many records are run at most, those of the newest files first.

    Raises:
        GateMismatch: It answers otherwise than the log says.
        NotFound: There is no such log.
        InvalidArgument: The log is damaged.
    """
    if _has_served(log, model, version):
        logger.info("Model %s version %d is not new to the gate %s, and passes it", model, version, log)
        return
    records = islice(_newest_first(log, model), most_records)
    tolerance = loaded.manifest.tolerance if loaded.manifest else None
    found = replay(records, runner(loaded.servable), tolerance=tolerance)
    if not found.compared:
        logger.warning("The gate %s has no answers of model %s: version %d passes it untried", log, model, version)
        return
    if found.mismatches:
        named = "; ".join(
            f"record {each.record}, {each.output or 'the call'}: {each.what}" for each in found.worst[:_MOST_NAMED]
        )
        raise GateMismatch(
            f"Version {version} does not agree with the gate {log}: {found.mismatches} of {found.compared} answers "
            f"differ. The worst: {named}",
            hint=f"servable replay {log} --model {model} --against {version} shows more",
        )
    logger.info("Model %s version %d agrees with all %d answers of its gate", model, version, found.compared)


def _has_served(log: str, model: str, version: int) -> bool:
    answered = (record.metadata.version for record in islice(_newest_first(log, model), _MOST_LOOKED_AT))
    return any(number is not None and number >= version for number in answered)


def _newest_first(log: str, model: str) -> Iterator[LogRecord]:
    for file in reversed(log_files(log)):
        yield from read_log([file], model)
