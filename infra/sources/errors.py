"""Why a source could not be asked, or one of its items not be understood."""

from __future__ import annotations

from typing import ClassVar


class SourceError(RuntimeError):
    """A source cannot be used as it is."""

    transient: ClassVar[bool] = False


class SourceUnavailable(SourceError):
    """The source did not answer, or asked for patience longer than the request's tries last."""

    transient: ClassVar[bool] = True


class SourceAnswerInvalid(SourceError):
    """The source answered with something that is not what was asked for; asking again would not help."""


class NothingThere(SourceAnswerInvalid):
    """The source says that it has nothing of that name."""


class ItemUnreadable(SourceError):
    """One item cannot be understood; the rest of the answer is not affected."""
