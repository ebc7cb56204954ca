from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0012_own_words_for_djangos_fields"),
    ]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="time_zone",
            field=models.CharField(blank=True, default="", help_text="Empty: as the browser says.", max_length=64, verbose_name="time zone"),
        ),
    ]
