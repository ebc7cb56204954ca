"""LXC guests: what linked clones need, credentials, addresses."""

from fakepve.lxc import SNAPSHOT_STORAGE
from fakepve.routing import die


class ContainerRules:
    """Mixin of the fake cluster."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.credentials: dict[int, dict[str, str]] = {}  # what containers were created with, for tests to look behind

    def _routes_containers(self):
        return [("GET", "/nodes/{node}/lxc/{vmid}/feature", self._ct_feature)]

    def _store_of(self, mount):
        return self.storages.get(mount["volume"].partition(":")[0], {})

    async def _lxc_clone(self, user, v):
        """Linked clones of containers need a storage that copies on write; directories do not (observed on PVE 9.2)."""
        source = self._find_ct(v["node"], v["vmid"])
        full = source.template is False if v.get("full") is None else v["full"]
        if not full and not source.lock:
            for _, mount in source.volumes():
                if self._store_of(mount).get("type") not in SNAPSHOT_STORAGE:
                    raise die(f"Linked clone feature for '{mount['volume']}' is not available")
        return await super()._lxc_clone(user, v)

    async def _lxc_create(self, user, v):
        upid = await super()._lxc_create(user, v)
        self.credentials[int(v["vmid"])] = {key: v[key] for key in ("password", "ssh-public-keys") if v.get(key)}
        return upid

    async def _lxc_destroy(self, user, v):
        self.need_quorum()
        return await super()._lxc_destroy(user, v)

    async def _lxc_stop(self, user, v):
        if v.get("overrule-shutdown"):
            self.kill_all("vzshutdown", v["vmid"])
        return await super()._lxc_stop(user, v)

    async def _ct_feature(self, v, user):
        ct = self._find_ct(v["node"], v["vmid"])
        stores = [self._store_of(mount).get("type") for _, mount in ct.volumes()]
        has = v["feature"] == "copy" or all(kind in SNAPSHOT_STORAGE for kind in stores)
        return {"hasFeature": int(has and (v["feature"] != "clone" or ct.template))}

    async def _lxc_interfaces(self, user, v):
        ct = self._find_ct(v["node"], v["vmid"])
        if ct.status == "running" and getattr(ct, "interfaces", None) is not None:
            return self._with_macs(ct, ct.interfaces)
        return await super()._lxc_interfaces(user, v)
