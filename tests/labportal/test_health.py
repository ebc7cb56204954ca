from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.urls import reverse
from django.utils import timezone

from labportal import health
from machines.models import Heartbeat
from tests.factories import make_cluster


@pytest.mark.django_db
def test_it_tells_the_age_of_each_heartbeat_without_signing_in(client, django_assert_num_queries):
    make_cluster(), make_cluster(reachable=False)
    for name, seconds in (("worker", 30), ("watcher", 1)):
        Heartbeat.objects.create(name=name, at=timezone.now() - timedelta(seconds=seconds))
    with django_assert_num_queries(2):
        answer = client.get(reverse("labportal:health"))
    assert answer.status_code == 200
    assert answer.json()["heartbeats"]["worker"] == pytest.approx(30, abs=5)
    assert answer.json()["clusters"] == {"all": 2, "answering": 1}


@pytest.mark.django_db
def test_it_says_503_where_a_process_is_silent(client):
    Heartbeat.objects.create(name="watcher", at=timezone.now())
    assert client.get("/health").json()["status"] == "no worker"
    Heartbeat.objects.create(name="worker", at=timezone.now() - timedelta(minutes=5))
    assert client.get("/health").status_code == 503


def test_being_alive_needs_no_database(client):
    assert client.get("/health/live").content == b"ok\n"


def test_it_says_503_where_the_database_does_not_answer(client, monkeypatch):
    def broken():
        raise DatabaseError("gone")

    monkeypatch.setattr(health, "heartbeat_ages", broken)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "no database"})


@pytest.mark.django_db
def test_it_answers_probes_only_as_they_ask(client):
    assert client.post("/health").status_code == 405
