from django.db import migrations


def end_sessions(apps, schema_editor):
    """Sessions of before have no row that says where they are: nobody would see them in the list, and they would not end with the others."""
    apps.get_model("sessions", "Session").objects.all().delete()
    apps.get_model("usersessions", "UserSession").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_addresses_given_by_staff"),
        ("sessions", "0001_initial"),
        ("usersessions", "0001_initial"),
    ]
    operations = [migrations.RunPython(end_sessions, migrations.RunPython.noop)]
