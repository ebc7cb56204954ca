"""The database itself refuses to change an entry of the record, and to remove a young one.

Thirty days are the shortest time AUDIT_DAYS may say, so what is kept no longer can go and nothing else.
Whoever may alter the tables can drop the triggers: they hold against mistakes, and against a portal
that was subverted, not against the administrator of the database.
"""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

REFUSAL = "what is in the record is neither changed nor removed"

SQLITE = (
    f"""CREATE TRIGGER audit_not_changed BEFORE UPDATE ON accounts_auditentry
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END""",
    f"""CREATE TRIGGER audit_not_removed BEFORE DELETE ON accounts_auditentry
    WHEN OLD.at > datetime('now', '-30 days')
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END""",
)
POSTGRESQL = (
    f"""CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$""",
    """CREATE TRIGGER audit_not_changed BEFORE UPDATE ON accounts_auditentry
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_not_removed BEFORE DELETE ON accounts_auditentry
    FOR EACH ROW WHEN (OLD.at > now() - interval '30 days') EXECUTE FUNCTION audit_refuse()""",
)


def guard(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement, params=None)


def unguard(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION audit_refuse() CASCADE")
        return
    schema_editor.execute("DROP TRIGGER audit_not_changed")
    schema_editor.execute("DROP TRIGGER audit_not_removed")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_what_identities_told")]

    operations = [
        migrations.AlterField(
            model_name="auditentry",
            name="actor",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="at",
            field=models.DateTimeField(db_index=True, default=django.utils.timezone.now, editable=False, verbose_name="when"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="action",
            field=models.CharField(db_index=True, max_length=60, verbose_name="what"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="outcome",
            field=models.CharField(default="ok", max_length=20, verbose_name="result"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="address",
            field=models.GenericIPAddressField(blank=True, db_index=True, null=True, verbose_name="from where"),
        ),
        # Last: where SQLite changes a table, it makes a new one, and triggers stay with the old.
        migrations.RunPython(guard, unguard),
    ]
