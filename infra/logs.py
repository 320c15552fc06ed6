"""Logs for machines: one JSON object a line, with the scene and the run that a line is about."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_RECORD: Final = ("flow_run_id", "flow_run_name", "flow_name", "task_run_id", "task_run_name", "worker_name")
"""What Prefect's own loggers say of a record."""

_RUN_VARIABLES: Final = {"flow_run_id": "PREFECT__FLOW_RUN_ID"}
"""What a process that a worker started for one run knows by its environment, whichever logger speaks."""

PREFECT_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "infra.logs.JsonLines",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
        "PREFECT_LOGGING_COLORS": "false",
    }
)
"""Variables by which Prefect's own processes write the same lines."""

_about: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))
_in_work: Final[list[Mapping[str, object]]] = []
"""What is in work in this process: a pool's threads do not inherit the context, and speak of the only one there is."""


@contextlib.contextmanager
def about(**facts: object) -> Iterator[None]:
    """Have every line that is logged inside say these facts, such as ``scene=7``; as text they are unchanged."""
    said = MappingProxyType({**_about.get(), **facts})
    token = _about.set(said)
    _in_work.append(said)
    try:
        yield
    finally:
        _in_work.remove(said)  # equal entries are as good as each other
        _about.reset(token)


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, run, scene, error."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take and ignore the format that logging configurations give."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: os.environ[variable] for name, variable in _RUN_VARIABLES.items() if variable in os.environ}
        line |= {name: value for name in _OF_RECORD if (value := getattr(record, name, None)) not in {None, ""}}
        line |= _facts()
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, trace = record.exc_info
            told = "".join(traceback.format_exception(kind, error, trace))
            line["error"] = {"type": kind.__name__, "message": str(error), "traceback": told}
        return json.dumps(line, default=str, ensure_ascii=False)


def log_as_json(level: int = logging.INFO) -> None:
    """Make this process write JSON lines on its standard error, and nothing else there."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _facts() -> Mapping[str, object]:
    here = _about.get()
    if here or not _in_work:
        return here
    last = _in_work[-1]
    return last if all(one.items() <= last.items() for one in tuple(_in_work)) else here
