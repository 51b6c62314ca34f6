"""Arrays, dependencies, resubmission, templates, notifications, workspaces."""

import sqlalchemy as sa
from alembic import op

from gateway.store.tables import Number, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("array", "resubmitted_from", "template", "notify", "workspace", "output_directory"):
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("task_counts", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("events", sa.Column("kind", sa.String(length=20), nullable=False, server_default="job"))
    op.create_table(
        "tasks",
        sa.Column("number", Number, nullable=False),
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("native_state", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("start_time", UtcTime(), nullable=True),
        sa.Column("end_time", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["number"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", "task_id"),
    )
    op.create_table(
        "dependencies",
        sa.Column("number", Number, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", "uuid", "type"),
    )
    op.create_index("dependencies_on", "dependencies", ["uuid"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", Number, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("next_try", sa.Float(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_outbox_number"), "outbox", ["number"], unique=False)
    op.create_index(op.f("ix_outbox_next_try"), "outbox", ["next_try"], unique=False)
    op.create_table(
        "templates",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name"),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
