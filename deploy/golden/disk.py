"""A bootable disk image from a file tree: partition table, boot loader, ext4, qcow2."""

import os
import struct
from pathlib import Path

from guest_tree import GuestTree
from packages import run

MIB = 1024 * 1024
START = MIB  # of the partition; the boot loader lies before it
GRUB = ["biosdisk", "part_msdos", "ext2", "linux", "configfile", "normal", "minicmd"]
EARLY = "set root=(hd0,msdos1)\nset prefix=($root)/boot/grub\nconfigfile ($root)/boot/grub/grub.cfg\n"


def make_disk(tree: GuestTree, out: Path, size_mib: int, work: Path) -> None:
    partition = work / "partition.ext4"
    with partition.open("wb") as file:
        file.truncate(size_mib * MIB - START)
    # GRUB reads this file system too: newer features than it knows are left out.
    features = ["-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,64bit"]
    layout = ["-N", "16384", "-m", "0", "-J", "size=8", "-E", "lazy_itable_init=0,root_owner=0:0"]
    run("mkfs.ext4", "-q", "-F", "-L", "labportal", *features, *layout, "-d", tree.root, partition)
    if os.geteuid() != 0:
        give_to_root(tree.root, partition)

    disk = work / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(size_mib * MIB)
        file.write(boot_sector(tree, size_mib))
        file.seek(512)
        file.write(core_image(tree, work))
        assert file.tell() <= START
    run("dd", f"if={partition}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
    run("qemu-img", "convert", "-O", "qcow2", "-c", "-o", "compat=1.1", disk, out)


def boot_sector(tree: GuestTree, size_mib: int) -> bytes:
    """GRUB's first stage and a table with one Linux partition, from START to the end."""
    code = (tree.source / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
    partition = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", START // 512, (size_mib * MIB - START) // 512)
    return code.ljust(446, b"\0") + partition + bytes(48) + b"\x55\xaa"


def core_image(tree: GuestTree, work: Path) -> bytes:
    early, core = work / "early.cfg", work / "core.img"
    early.write_text(EARLY)
    modules = tree.source / "usr/lib/grub/i386-pc"
    run(*tree.tool("grub-mkimage"), "-O", "i386-pc", "-d", modules, "-c", early, "-p", "(hd0,msdos1)/boot/grub", "-o", core, *GRUB)
    return core.read_bytes()


def give_to_root(root: Path, partition: Path) -> None:
    """mkfs takes owners from the files, which belong to whoever builds. In the guest all is root's."""
    commands = []
    for path in sorted(root.rglob("*")):
        name = "/" + str(path.relative_to(root))
        commands += [f'set_inode_field "{name}" uid 0', f'set_inode_field "{name}" gid 0']
    run("debugfs", "-w", "-f", "-", partition, stdin="\n".join(commands).encode())
