"""The catalog's web server: one process, or several that share a port and answer side by side."""

from __future__ import annotations

import atexit
import os
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.assembly import Assembly
    from infra.settings import Settings

_MOST_BY_ITSELF: Final = 4


class WorkersRefused(ValueError):
    """The settings ask for several processes and for something that only one can do."""

    transient: ClassVar[bool] = False


def worker_count(settings: Settings, asked: int | None = None) -> int:
    """Return how many processes serve.

    One answers about as many searches as one processor can write. On PostgreSQL there are as many as this process may
    use processors, up to four; SQLite is for one machine with few clients and has one. Limits by client address are
    counted inside one process, so where they are set there is one.

    Args:
        settings: ``api.workers`` decides where it is set.
        asked: Decides before the settings.

    Raises:
        WorkersRefused: several are wanted together with a limit by client address.
    """
    api = settings.api
    limited = api.requests_per_minute is not None
    wanted = asked or api.workers
    if wanted is None:
        alone = limited or api.push_token is not None or not settings.resolved_database_url.startswith("postgres")
        return 1 if alone else min(_MOST_BY_ITSELF, len(os.sched_getaffinity(0)))
    if wanted > 1 and limited:
        raise WorkersRefused(
            f"api.requests_per_minute is counted inside one process, but {wanted} are asked for; "
            "set api.workers = 1, or limit requests at the proxy instead"
        )
    return wanted


def serve(settings: Settings, host: str, port: int, *, workers: int = 1, log_config: dict[str, Any] | None) -> None:
    """Serve until a signal ends it.

    Args:
        settings: The settings in force; processes of their own read them once more.
        host: Address to listen on.
        port: Port to listen on.
        workers: Processes.
        log_config: For `logging.config.dictConfig`; None: as it is.
    """
    import uvicorn

    from catalog.api.metrics import SHARED_FIGURES
    from flows.assembly import assemble

    with assemble(settings) as assembly:  # several would bring the schema up to date at once
        if workers == 1:
            with web_application(assembly) as web:
                uvicorn.run(web, host=host, port=port, log_level="info", log_config=log_config)
            return
    with tempfile.TemporaryDirectory(prefix="explains2a-metrics-") as figures:
        os.environ[SHARED_FIGURES] = figures  # /metrics tells of all processes, whichever is asked
        uvicorn.run(
            "flows.serving:application", factory=True, workers=workers, host=host, port=port, log_level="info",
            log_config=log_config,
        )  # fmt: skip


@contextmanager
def web_application(assembly: Assembly) -> Iterator[Any]:
    """Make the application with everything that products and notifications need."""
    from catalog.api import create_app
    from catalog.api.push import register_push
    from catalog.api.spectra import register_spectra
    from flows.spectra import ProductReader
    from flows.watching import take_notification

    settings = assembly.settings
    sign = None
    if settings.api.asset_links == "signed":
        from infra.storage.signing import s3_signer

        sign = s3_signer(settings.resolved_storage, settings.api.signed_seconds)
    with ProductReader(assembly.store, settings.resolved_storage) as reader:
        spectra = partial(register_spectra, reader=reader)
        push = partial(register_push, take=partial(take_notification, assembly))
        yield create_app(assembly.database, settings, routes=[spectra, push], sign=sign)


def application() -> Any:
    """Make the application of one of several processes; what it holds is let go when the process ends."""
    from flows.assembly import assemble

    held = ExitStack()
    atexit.register(held.close)
    assembly = held.enter_context(assemble())
    return held.enter_context(web_application(assembly))
