"""The cluster the tests start with: three nodes, four storages, templates of both kinds, and the portal's own account."""

GIB = 1 << 30
NODES = ("pve1", "pve2", "pve3")
USER, TOKEN_NAME, PASSWORD = "labportal@pve", "portal", "portal-password"
POOL = "labs"

POOL_PRIVILEGES = [
    "VM.Audit",
    "VM.Allocate",
    "VM.PowerMgmt",
    "VM.Console",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
    "VM.Config.Options",
    "VM.Config.CPU",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Disk",
    "VM.Config.Cloudinit",
    "VM.Config.CDROM",
    "VM.GuestAgent.Audit",
    "Pool.Audit",
]
INTERFACES = [
    {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
    {"name": "eth0", "hardware-address": "net0", "ip-addresses": [{"ip-address": "192.0.2.10", "ip-address-type": "ipv4", "prefix": 24}]},
]


def build(cluster):
    """Returns the secret of the portal's token."""
    for node in NODES:
        cluster.add_node(node)
    _storages(cluster)
    cluster.pools[POOL] = set()
    cluster.pool_info[POOL] = {"comment": None, "storage": set()}
    _machine_template(cluster, 9000, "debian-12", "pve1", "local-lvm")
    _machine_template(cluster, 9001, "debian-12-shared", "pve1", "shared")
    _container_template(cluster, 9100, "debian-ct", "pve1", "local-lvm:base-9100-disk-0")
    _container_template(cluster, 9101, "debian-ct-dir", "pve1", "dirs:9101/base-9101-disk-0.raw")
    return _account(cluster)


def _storages(cluster):
    cluster.storages["local"]["content"] = "iso,vztmpl,backup,snippets"
    cluster.store_file("local", "debian-12-standard_12.7-1_amd64.tar.zst", 120 << 20, content="vztmpl")
    cluster.storages["local-lvm"] |= {"avail": 900 * GIB, "total": 1000 * GIB}
    shared = {"type": "nfs", "server": "192.0.2.5", "export": "/labs", "path": "/mnt/pve/shared", "format": "qcow2", "shared": 1}
    directory = {"type": "dir", "path": "/srv/dirs"}
    for name, options in (("shared", shared), ("dirs", directory)):
        cluster.storages[name] = options | {"active": 1, "content": "images,rootdir", "files": set(), "avail": 900 * GIB, "total": 1000 * GIB}


def _machine_template(cluster, vmid, name, node, storage):
    in_files = storage != "local-lvm"
    disk = f"{vmid}/base-{vmid}-disk-0.qcow2" if in_files else f"base-{vmid}-disk-0"
    seed = f"{vmid}/vm-{vmid}-cloudinit.qcow2" if in_files else f"vm-{vmid}-cloudinit"
    volumes = cluster.storages[storage].setdefault("volumes", {})
    volumes[disk] = {"content": "images", "format": "qcow2" if in_files else "raw", "size": 8 * GIB, "vmid": vmid, "ctime": 0}
    volumes[seed] = {"content": "images", "format": "raw", "size": 4 << 20, "vmid": vmid, "ctime": 0}
    config = {
        "agent": "1",
        "boot": "order=scsi0",
        "cores": 1,
        "description": "Debian 12 with cloud-init",
        "ide2": f"{storage}:{seed},media=cdrom",
        "ipconfig0": "ip=dhcp",
        "memory": "1024",
        "net0": "virtio=BC:24:11:00:90:00,bridge=vmbr0",
        "ostype": "l26",
        "scsi0": f"{storage}:{disk},size=8G",
        "scsihw": "virtio-scsi-single",
        "serial0": "socket",
        "smbios1": "uuid=00000000-0000-4000-8000-000000000000",
        "tags": "template",
        "template": 1,
    }
    vm = cluster.add_vm(vmid, name, node=node, config=config, template=True)
    vm.agent = {"interfaces": INTERFACES}


def _container_template(cluster, vmid, name, node, volume):
    net = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:91:00,ip=dhcp,type=veth"
    config = {"rootfs": f"{volume},size=4G", "net0": net, "cores": 1, "description": "Debian 12 container"}
    cluster.add_ct(vmid, name, node=node, config=config, template=True)


def _account(cluster):
    """With a privilege-separated token: what is granted is granted to both (docs/proxmox.md says the same to administrators)."""
    cluster.users[USER] = PASSWORD
    secret = cluster.add_token(USER, TOKEN_NAME)
    for who in (USER, f"{USER}!{TOKEN_NAME}"):
        cluster.grant(who, f"/pool/{POOL}", *POOL_PRIVILEGES)
        for vmid in (9000, 9001, 9100, 9101):
            cluster.grant(who, f"/vms/{vmid}", "VM.Clone", "VM.Audit")
        for storage in cluster.storages:
            cluster.grant(who, f"/storage/{storage}", "Datastore.AllocateSpace", "Datastore.Audit")
        cluster.grant(who, "/sdn/zones/localnetwork", "SDN.Use")
        cluster.grant(who, "/nodes", "Sys.Audit")
    return secret
