"""How busy each host was."""

import sqlalchemy as sa
from alembic import op

from gateway.store.tables import Number, UtcTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "host_history",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Integer(), nullable=False),
        sa.Column("aborted", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("event", Number, nullable=False),
        sa.PrimaryKeyConstraint("host", "at"),
    )
