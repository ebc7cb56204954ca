"""The templates of a cluster, as rows that staff describe and teachers choose from."""

from typing import Any

from django.db import transaction

from accounts.services import audit
from machines.models import Cluster, Template
from machines.models.cluster import Audience
from machines.providers.base import Provider
from machines.providers.types import TemplateInfo

from . import gateway
from .feed import publish


def sync_templates(cluster: Cluster, provider: Provider | None = None, *, audience: Audience = Audience.STAFF) -> list[Template]:
    """Bring the rows of `cluster` in line with what it has, and return those that are present.

    A new template gets the name, description, account and size it says itself and is offered to
    `audience`, until staff say to whom; what staff wrote stays.
    One that is gone is only marked so: machines still refer to it. One whose node or storage does
    not answer stays as it was. Raises Unreachable, and Unsupported where the cluster lists no templates.
    """
    provider = provider or gateway.provider_for(cluster)
    listed = {info.ref: info for info in provider.templates()}
    with transaction.atomic():
        known = {template.ref: template for template in cluster.templates.all()}
        changed = False
        for ref, info in listed.items():
            if ref not in known:
                username = {"username": info.username} if info.username else {}
                about = {"name": info.name[:100], "description": info.description[:300], "seeded": info.seeded, "audience": audience, **_seen(info)}
                sizes = {name: size for name in ("cores", "memory_mib") if (size := getattr(info, name))}
                template = Template.objects.create(cluster=cluster, ref=ref, **about, **username, **sizes)
                audit.record("template.found", acting_user=None, target=template, cluster=cluster.name)
                changed = True
        for template in known.values():
            if template.ref not in listed and provider.may_have_template(template.ref):
                continue
            seen = _seen(listed.get(template.ref))
            if any(getattr(template, column) != value for column, value in seen.items()):
                Template.objects.filter(pk=template.pk).update(**seen)
                if seen["present"] != template.present:
                    audit.record("template.found" if seen["present"] else "template.gone", acting_user=None, target=template, cluster=cluster.name)
                changed = True
        if changed:
            publish(f"cluster:{cluster.pk}")
    return list(cluster.templates.filter(present=True))


def _seen(info: TemplateInfo | None) -> dict[str, Any]:
    return {"present": True, "kind": info.kind, "node": info.node[:100], "storage": info.storage[:100]} if info else {"present": False}


def import_template(cluster: Cluster, path: str, name: str) -> Template:
    """Take a disk image or a Vagrant box as a template of this cluster. Raises InvalidSpec, StorageFull, Unreachable, Unsupported."""
    provider = gateway.provider_for(cluster)
    info = provider.import_template(path, name)
    return next(template for template in sync_templates(cluster, provider, audience=Audience.EVERYBODY) if template.ref == info.ref)
