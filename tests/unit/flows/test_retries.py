"""Only errors that say of themselves that they may pass are tried again, in a real task of Prefect's."""

import asyncio

from prefect.states import Completed, Failed

from catalog.session import DatabaseBusy, SchemaMismatch
from flows.retries import is_transient, may_pass


def test_the_mark_decides():
    assert is_transient(DatabaseBusy("x"))
    assert not is_transient(SchemaMismatch("x"))
    assert not is_transient(ValueError("x"))
    assert not is_transient(None)


def test_prefect_is_told_by_the_error_in_the_state():
    async def asked(state):
        return await may_pass(None, None, state)

    assert asyncio.run(asked(Failed(data=DatabaseBusy("x"))))
    assert not asyncio.run(asked(Failed(data=KeyError("x"))))
    assert not asyncio.run(asked(Completed(data=1)))
