"""The change feed: what pages must look at again."""

from django.db import models


class Change(models.Model):
    """Something about `topic` changed. Written in the transaction of the change itself.

    Topics: `machine:<key>`, `owner:<user id>`, `operation:<key>`, `batch:<key>`,
    `class:<id>`, `cluster:<id>`. Rows older than an hour are swept.
    """

    topic = models.CharField(max_length=60)
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    def __str__(self) -> str:
        return self.topic
