"""Which environment variables exist: ours from the settings' tree, Prefect's from its own list."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from infra.settings import CONFIG_VARIABLE, Settings

_INTEGRATIONS = "PREFECT_INTEGRATIONS_KUBERNETES_"  # of a package that is installed in one image only


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return the variables that neither our settings nor Prefect's know."""
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_valid_setting_names

    known = {*own_variables(), *_get_valid_setting_names(PrefectSettings), *_logging_variables()}
    ours_or_prefects = [name for name in names if name.startswith(("EXPLAINS2A_", "PREFECT_"))]
    return sorted(n for n in ours_or_prefects if n not in known and not n.startswith(_INTEGRATIONS))


def _logging_variables() -> Iterator[str]:
    """Yield the variables that change an entry of Prefect's logging configuration."""
    from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH

    def paths(entry: Any, name: str) -> Iterator[str]:
        if isinstance(entry, dict):
            for key, value in entry.items():
                yield from paths(value, f"{name}_{key}".upper().replace(".", "_"))
        else:
            yield name

    yield from paths(yaml.safe_load(DEFAULT_LOGGING_SETTINGS_PATH.read_text()), "PREFECT_LOGGING")


def own_variables() -> set[str]:
    """Return every variable that sets one entry of our settings."""
    return {CONFIG_VARIABLE, *_entries(Settings, "EXPLAINS2A_")}


def _entries(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}".upper()
        for kind in _models(field.annotation):
            yield from _entries(kind, f"{prefix}{name}__".upper())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, types.UnionType}:
        for part in get_args(annotation):
            yield from _models(part)
