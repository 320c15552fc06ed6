"""What alembic runs: on the connection it is handed, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from catalog.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
