from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.urls import reverse
from django.utils import timezone

from labportal import health
from machines.models import Heartbeat


@pytest.mark.django_db
def test_it_tells_the_age_of_each_heartbeat_without_signing_in(client, django_assert_num_queries):
    Heartbeat.objects.create(name="worker", at=timezone.now() - timedelta(seconds=30))
    with django_assert_num_queries(1):
        answer = client.get(reverse("labportal:health"))
    assert answer.status_code == 200
    assert answer.json()["heartbeats"]["worker"] == pytest.approx(30, abs=5)


def test_it_says_503_where_the_database_does_not_answer(client, monkeypatch):
    def broken():
        raise DatabaseError("gone")

    monkeypatch.setattr(health, "heartbeat_ages", broken)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "no database"})


@pytest.mark.django_db
def test_it_answers_probes_only_as_they_ask(client):
    assert client.post("/health").status_code == 405
