"""What pages offer as a way into a machine is where the portal itself would connect to."""

import pytest
from django.urls import reverse

from machines.lifecycle import State
from tests.factories import make_cluster, make_machine, make_template, make_user

pytestmark = pytest.mark.django_db
NETWORKS = ["10.20.0.0/16"]


def told(host, source="agent", service="guest", port=0):
    return {"service": service, "host": host, "port": port, "source": source}


@pytest.fixture
def show(client):
    """The page of a machine that tells these addresses, and another machine."""
    client.force_login(make_user("ada"))

    def show(*endpoints, networks=NETWORKS):
        template = make_template(make_cluster(networks=networks))
        machine = make_machine(template=template, owner=client.get("/").wsgi_request.user, state=State.RUNNING, endpoints=list(endpoints))
        make_machine(template=template, state=State.RUNNING, endpoints=[told("10.20.0.9")])
        return client.get(reverse("machines:machine", args=[machine.key])).content.decode()

    return show


def test_an_address_of_the_clusters_networks_is_offered(show):
    text = show(told("10.20.0.7"))
    assert "ssh student@10.20.0.7" in text and "from the guest" in text and "10.20.0.7:" not in text
    assert "ssh student@10.20.0.8" in show(told("8.8.8.8"), told("10.20.0.8"))


def test_a_forward_is_offered_wherever_it_leads(show):
    text = show(told("127.0.0.1", "forward", "ssh", 2207), told("8.8.8.8"), networks=[])
    assert "ssh -p 2207 student@127.0.0.1" in text and "127.0.0.1:2207" in text and "8.8.8.8" not in text


@pytest.mark.parametrize(
    ("host", "networks", "why"),
    [
        ("8.8.8.8", NETWORKS, "its address is 8.8.8.8, which is not in the networks of its cluster"),
        ("10.20.0.9", NETWORKS, "its address is 10.20.0.9, and another machine has that too"),
        ("10.20.0.7", [], "staff have listed no networks of this cluster"),
        ("evil.test", NETWORKS, "tells no address that can be one"),
    ],
)
def test_an_address_that_is_not_believed_is_no_way_in_and_the_page_says_why(show, host, networks, why):
    text = show(told(host), networks=networks)
    assert why in text and "ssh student@" not in text and "evil" not in text
    assert "Look again" in text and "No address yet" not in text


def test_one_that_tells_nothing_has_no_address_yet(show):
    assert "No address yet" in show()
