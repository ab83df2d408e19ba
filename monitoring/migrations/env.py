"""What alembic runs: the migrations, over the connection and inside the transaction that the store hands over."""

from __future__ import annotations

from alembic import context

from monitoring.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
