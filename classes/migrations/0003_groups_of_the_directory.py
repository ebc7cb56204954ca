from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("classes", "0002_places_are_given_once"),
    ]

    operations = [
        migrations.AddField(
            model_name="labclass",
            name="directory_group",
            field=models.TextField(blank=True, default="", verbose_name="group of the directory"),
        ),
        migrations.AddField(
            model_name="labclass",
            name="kept_out",
            field=models.ManyToManyField(blank=True, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name="enrolment",
            name="from_directory",
            field=models.BooleanField(default=False, verbose_name="by the group"),
        ),
        migrations.AddField(
            model_name="enrolment",
            name="left_group_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="left the group"),
        ),
    ]
