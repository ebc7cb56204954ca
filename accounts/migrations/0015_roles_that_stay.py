from django.db import migrations, models
from django.db.models import Exists, OuterRef


def give_own_roles(apps, schema_editor):
    """Until now a role that a system gives counted as given by it, and gave way to that of students."""
    giving = apps.get_model("accounts", "Identity").objects.filter(user=OuterRef("pk"), role_given=OuterRef("role"))
    apps.get_model("accounts", "User").objects.filter(Exists(giving)).update(own_role="student")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0014_letters_that_are_written")]
    operations = [
        migrations.AddField(
            model_name="user",
            name="own_role",
            field=models.CharField(blank=True, choices=[("student", "Student"), ("teacher", "Teacher"), ("staff", "Staff")], default="", max_length=10),
        ),
        migrations.RunPython(give_own_roles, migrations.RunPython.noop),
    ]
