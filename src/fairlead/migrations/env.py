"""Run by alembic: applies revisions on the connection, and inside the transaction, that `migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
