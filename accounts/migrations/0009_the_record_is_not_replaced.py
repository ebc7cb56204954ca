"""Two more ways to change an entry of the record are closed: SQLite's REPLACE removes a row without asking the
triggers for removals (0005), and PostgreSQL's TRUNCATE asks no row."""

from importlib import import_module

from django.db import migrations

append_only = import_module("accounts.migrations.0005_the_record_is_append_only")

SQLITE = f"""CREATE TRIGGER audit_not_replaced BEFORE INSERT ON accounts_auditentry
    WHEN EXISTS (SELECT 1 FROM accounts_auditentry WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, '{append_only.REFUSAL}'); END"""
POSTGRESQL = """CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON accounts_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"""


def guard(apps, schema_editor):
    schema_editor.execute(POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE, params=None)


def unguard(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER audit_not_emptied ON accounts_auditentry")
        return
    schema_editor.execute("DROP TRIGGER audit_not_replaced")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_people")]

    operations = [migrations.RunPython(guard, unguard)]
