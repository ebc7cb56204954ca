"""The sizes an installation begins with, unless its staff have made their own."""

from django.db import migrations

TIERS = (("Bronze", 1, 500, 8), ("Silver", 2, 2048, 16), ("Gold", 3, 4096, 28))


def ship_tiers(apps, schema_editor):
    tiers = apps.get_model("machines", "Tier").objects.using(schema_editor.connection.alias)
    if not tiers.exists():
        for position, (name, cores, memory_mib, disk_gib) in enumerate(TIERS, start=1):
            tiers.create(name=name, cores=cores, memory_mib=memory_mib, disk_gib=disk_gib, position=position)


class Migration(migrations.Migration):
    dependencies = [("machines", "0010_requests")]
    operations = [migrations.RunPython(ship_tiers, migrations.RunPython.noop)]
