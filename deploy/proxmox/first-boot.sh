#!/bin/sh
# Gives a container that was cloned from a template what it must not share with its siblings: SSH host keys, a machine id,
# and a root account nobody knows the password of. A clone of a container keeps the template's; Proxmox VE changes none of it.
#
# In the container that becomes the template (Debian, Ubuntu, Alpine; as root):
#
#     install -m 755 first-boot.sh /usr/local/sbin/labportal-first-boot
#     labportal-first-boot --install     # runs once, at the first start of every clone
#     poweroff                           # and then: pct template <number>
#
# Settings, read from /etc/labportal-first-boot.conf where it exists:
#
#     UNLOCK_USER=student    # an account that gets a password of its own, written to the text console (/dev/console) once
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
ROOT="${LABPORTAL_ROOT:-}" # another root directory, for tests
SELF=/usr/local/sbin/labportal-first-boot
MARK="$ROOT/var/lib/labportal/first-boot-due"
UNLOCK_USER=""

install_me() {
    mkdir -p "$ROOT/var/lib/labportal"
    if [ -d "$ROOT/etc/systemd/system" ]; then
        cat > "$ROOT/etc/systemd/system/labportal-first-boot.service" <<UNIT
[Unit]
Description=What a cloned container must not share with its siblings
ConditionPathExists=/var/lib/labportal/first-boot-due
Before=ssh.service sshd.service

[Service]
Type=oneshot
ExecStart=$SELF

[Install]
WantedBy=multi-user.target
UNIT
        mkdir -p "$ROOT/etc/systemd/system/multi-user.target.wants"
        ln -sf ../labportal-first-boot.service "$ROOT/etc/systemd/system/multi-user.target.wants/labportal-first-boot.service"
    else
        mkdir -p "$ROOT/etc/local.d"
        printf '#!/bin/sh\n%s\n' "$SELF" > "$ROOT/etc/local.d/labportal-first-boot.start"
        chmod 755 "$ROOT/etc/local.d/labportal-first-boot.start"
        [ -n "$ROOT" ] || rc-update add local default
    fi
    rm -f "$ROOT"/etc/ssh/ssh_host_*_key "$ROOT"/etc/ssh/ssh_host_*_key.pub
    : > "$ROOT/etc/machine-id"
    : > "$MARK"
}

first_boot() {
    [ -e "$MARK" ] || exit 0
    rm -f "$ROOT"/etc/ssh/ssh_host_*_key "$ROOT"/etc/ssh/ssh_host_*_key.pub
    ssh-keygen -A ${ROOT:+-f "$ROOT"}
    if [ ! -s "$ROOT/etc/machine-id" ]; then
        tr -d - < /proc/sys/kernel/random/uuid > "$ROOT/etc/machine-id"
    fi
    if [ -z "$ROOT" ]; then
        passwd -l root > /dev/null
        if [ -n "$UNLOCK_USER" ]; then
            password=$(head -c 12 /dev/urandom | base64 | tr '+/' '-_')
            printf '%s:%s\n' "$UNLOCK_USER" "$password" | chpasswd
            printf '\nlabportal: the password of %s is %s\n\n' "$UNLOCK_USER" "$password" > /dev/console
        fi
    fi
    # Last: what is interrupted before is done again at the next start.
    rm -f "$MARK"
}

if [ -r "$ROOT/etc/labportal-first-boot.conf" ]; then
    # shellcheck source=/dev/null
    . "$ROOT/etc/labportal-first-boot.conf"
fi
case "${1:-}" in
    --install) install_me ;;
    "") first_boot ;;
    *)
        echo "usage: $0 [--install]" >&2
        exit 2
        ;;
esac
