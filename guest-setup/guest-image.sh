#!/usr/bin/env bash
# Builds the demo guest: Debian 12 with a small X desktop and an SSH server, as a disk image with its kernel beside it.
# demo.sh calls this as root; everything that goes into the guest is in this file and in the folder guest/ beside it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'TEXT'
usage: guest-image.sh OUTPUT_FOLDER LOGIN_KEY.pub HOST_KEY [APT_SOURCE_LINE ...]

Makes disk.qcow2, vmlinuz and initrd.img in OUTPUT_FOLDER, which must exist. LOGIN_KEY.pub lets vmrobot and root in by
SSH; HOST_KEY is the private host key of the guest's SSH server. Without source lines, packages come from Debian's own
mirror. Needs root, mmdebstrap, mke2fs and qemu-img.
TEXT
}

readonly disk_size=4G

packages=(
    linux-image-amd64 initramfs-tools systemd-sysv udev dbus libpam-systemd
    openssh-server openssh-sftp-server sudo procps psmisc less iproute2
    # The desktop; xserver-xorg-legacy lets a user's service start X.
    xserver-xorg-core xserver-xorg-legacy xserver-xorg-input-libinput xinit
    icewm xterm x11-xserver-utils fonts-dejavu-core xfonts-base
    # Text consoles with Debian's usual font.
    kbd console-setup-linux console-setup
    # For the tests alone, which check from inside what arrived: virtpilot itself needs none of these in a guest.
    xdotool xinput x11-utils python3-minimal python3-evdev
    # And an editor with menus and dialogs, for a walk through them.
    l3afpad
)

# What no screen shows and no program here loads: manuals, translations, drivers of hardware that QEMU does not play.
left_out=(
    '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/bug/*'
    '/usr/share/lintian/*' '/usr/lib/gcc/*' '/usr/lib/x86_64-linux-gnu/libLLVM*' '/usr/lib/x86_64-linux-gnu/dri/*'
    '/lib/modules/*/kernel/sound/*'
    '/lib/modules/*/kernel/drivers/'{media,staging,infiniband,iio,isdn,comedi,bluetooth,hwmon,mtd,thunderbolt}'/*'
    '/lib/modules/*/kernel/drivers/net/'{ethernet,wireless,can,usb,wwan}'/*'
    '/lib/modules/*/kernel/drivers/gpu/drm/'{amd,i915,nouveau,radeon,gma500,mgag200,vmwgfx}'/*'
    '/lib/modules/*/kernel/fs/'{ocfs2,gfs2,xfs,btrfs,ceph,smb,nfs,nfsd,f2fs,bcachefs}'/*'
)

# Timers and services that would run during the first minutes, and those that wait for what is not there.
switched_off=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    systemd-networkd-wait-online.service systemd-timesyncd.service systemd-pstore.service
)

main() {
    if [[ ${1-} == --help || $# -lt 3 ]]; then
        usage
        [[ ${1-} == --help ]]
        exit
    fi
    local out=$1 login_key=$2 host_key=$3
    shift 3
    # Not local: the trap runs after this function is gone.
    work=$(mktemp -d "$out/build.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    install_packages "$work/root" "$@"
    add_users "$work/root" "$login_key"
    add_host_key "$work/root" "$host_key"
    settle_services "$work/root"
    make_ssh_quick "$work/root"
    pack "$work/root" "$out"
}

install_packages() {
    local root=$1 options=() pattern
    shift
    for pattern in "${left_out[@]}"; do
        options+=(--dpkgopt="path-exclude=$pattern")
    done
    # Our files go in before the kernel, so that its start-up archive is made once and small.
    mmdebstrap --quiet --variant=minbase --include="$(join "${packages[@]}")" "${options[@]}" \
        --dpkgopt=force-confold --aptopt='Apt::Install-Recommends "false"' \
        --essential-hook="tar -C '$here/guest' --owner=0 --group=0 --mode=u=rwX,go=rX -c . | tar -C \"\$1\" -x" \
        bookworm "$root" "$@"
}

join() {
    local IFS=,
    echo "$*"
}

add_users() {
    local root=$1 login_key=$2 user home
    chroot "$root" useradd --create-home --shell /bin/bash vmrobot
    # The folder is there already, with the session's settings in it.
    chroot "$root" useradd --home-dir /home/desktop --shell /bin/bash --groups sudo desktop
    chroot "$root" cp -n /etc/skel/.bashrc /etc/skel/.profile /home/desktop/
    chroot "$root" chown -R desktop:desktop /home/desktop
    chmod 750 "$root/home/desktop"
    # For the text consoles and sudo; SSH takes no passwords.
    echo 'desktop:desktop' | chroot "$root" chpasswd
    for user in vmrobot root; do
        home=/home/$user
        [[ $user == root ]] && home=/root
        chroot "$root" usermod --password '*' "$user"
        install -d -m 700 "$root$home/.ssh"
        install -m 600 "$login_key" "$root$home/.ssh/authorized_keys"
        chroot "$root" chown -R "$user:$user" "$home/.ssh"
    done
}

add_host_key() {
    local root=$1 host_key=$2
    rm -f "$root"/etc/ssh/ssh_host_*
    install -m 600 "$host_key" "$root/etc/ssh/ssh_host_ed25519_key"
    ssh-keygen -y -f "$host_key" >"$root/etc/ssh/ssh_host_ed25519_key.pub"
}

settle_services() {
    local root=$1
    echo virtpilot-demo >"$root/etc/hostname"
    echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
    systemctl_in "$root" enable desktop.service systemd-networkd.service getty@tty2.service getty@tty3.service
    systemctl_in "$root" mask "${switched_off[@]}"
    systemctl_in "$root" set-default multi-user.target
    # Made here once instead of at each start.
    chroot "$root" fc-cache --system-only
    chroot "$root" setupcon --save-only --force
    # An empty one would be filled at each start, and a missing one counts as the first start of all.
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
}

# A login session starts a service manager of its own: a second of work, under emulation, for every connection.
make_ssh_quick() {
    sed -i 's/^@include common-session$/session required pam_unix.so/' "$1/etc/pam.d/sshd"
    grep -q '^session required pam_unix.so$' "$1/etc/pam.d/sshd"
}

# The guest's own systemctl: the host may have none.
systemctl_in() {
    local root=$1
    shift
    chroot "$root" systemctl --quiet "$@"
}

# Straight from the folder into a file system: no mount, no loop device, so it works in containers too.
pack() {
    local root=$1 out=$2
    cp -L "$root/vmlinuz" "$out/vmlinuz"
    cp -L "$root/initrd.img" "$out/initrd.img"
    mke2fs -q -F -t ext4 -d "$root" -m 0 -L demo -E lazy_itable_init=0,lazy_journal_init=0 \
        "$work/disk.raw" "$disk_size" >/dev/null
    qemu-img convert -O qcow2 "$work/disk.raw" "$out/disk.qcow2"
}

main "$@"
