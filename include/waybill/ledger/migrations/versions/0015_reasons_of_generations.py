"""Why a generation began is a word now (`states.GenerationReason`). Sentences about the source or the catalog stay."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STREAM = sa.table("stream", sa.column("reason"))
_SPELLED = {
    "the destination shows deliveries that the ledger does not know, and their manifests were collected": "manifests_collected",
    "full load asked for": "full_load_asked",
    "other rows are delivered now": "other_rows",
}


def upgrade() -> None:
    for sentence, word in _SPELLED.items():
        op.execute(_STREAM.update().where(_STREAM.c.reason == sentence).values(reason=word))


def downgrade() -> None:
    for sentence, word in _SPELLED.items():
        op.execute(_STREAM.update().where(_STREAM.c.reason == word).values(reason=sentence))
