#!/usr/bin/env bash
# virtpilot's demo, from nothing to a played session: installs what is missing, builds a small Debian guest with a
# desktop, starts it under libvirt, builds virtpilot and lets it drive that guest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$here")
readonly here repo
readonly name=virtpilot-demo
readonly uri=qemu:///system
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/virtpilot
readonly login_key=$cache/id_ed25519
readonly host_key=$cache/guest_host_key
readonly known_hosts=$cache/guest_known_hosts
readonly guest_xauthority=/home/desktop/.Xauthority
# QEMU runs as a user of its own, which cannot look into home folders. So what QEMU reads lies in a storage pool of
# libvirt's: libvirt makes and fills the files itself, which works alike for root and for everybody who may use libvirt.
readonly pool=$name
readonly pool_folder=/var/lib/libvirt/images/$name
# Seconds. Under emulation on a busy machine three minutes were seen.
readonly boot_limit=600

usage() {
    cat <<TEXT
usage: guest-setup/demo.sh [--guest-only | --stop | --remove | --help]

Without an option: sets up the demo guest, builds virtpilot and plays a session in the guest.

  --guest-only  set up and start the guest, then stop there
  --stop        shut the guest down and undefine it; the next run starts it again from the kept image
  --remove      --stop, and remove image, keys, pictures and the daemons that this script started
  --help        this text

Installing packages and building the image need root; a user is asked for sudo. VIRTPILOT_DEMO_PORT chooses the port on
127.0.0.1 that leads to the guest's SSH server (2222, or the next free one).
What the demo keeps lies in $cache and $pool_folder.
TEXT
}

main() {
    case $# in
        0) demo ;;
        1)
            case $1 in
                --guest-only) with_lock set_up_guest ;;
                --stop) with_lock stop_guest ;;
                --remove) with_lock remove_all ;;
                --help | -h) usage ;;
                *) refuse_option "$1" ;;
            esac
            ;;
        *) refuse_option "$2" ;;
    esac
}

refuse_option() {
    echo "demo.sh: unknown or superfluous option: $1" >&2
    usage >&2
    exit 2
}

demo() {
    with_lock set_up_guest
    install_missing "${build_packages[@]}"
    build_virtpilot
    play_session
    print_summary
}

# ---------------------------------------------------------------------------------------------- what others build on

# Progress goes to stderr, so that stdout stays for those who ask for something.
say() {
    echo "==> $*" >&2
}

fail() {
    echo "demo.sh: $*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# Two runs at once would build the same image twice and start the same guest twice.
with_lock() {
    mkdir -p "$cache"
    chmod 700 "$cache"
    exec 9>"$cache/lock"
    if ! flock --nonblock 9; then
        say "another run is at work; waiting for it"
        flock 9
    fi
    "$@"
    exec 9>&-
}

vsh() {
    virsh --quiet --connect "$uri" "$@"
}

# -------------------------------------------------------------------------------------------------------- (a) packages

# Named as Debian names them; for other distributions see translate.
readonly guest_packages=(
    qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients
    mmdebstrap debian-archive-keyring e2fsprogs openssh-client procps util-linux ca-certificates
)
readonly build_packages=(gcc libc6-dev pkg-config libvirt-dev libxkbcommon-dev xkb-data libx11-data python3-venv)

install_missing() {
    local manager wanted missing=() package
    manager=$(package_manager)
    for package in "$@"; do
        for wanted in $(translate "$manager" "$package"); do
            is_installed "$manager" "$wanted" || missing+=("$wanted")
        done
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    install_with "$manager" "${missing[@]}"
}

package_manager() {
    local manager
    for manager in apt-get pacman dnf; do
        if command -v "$manager" >/dev/null; then
            echo "$manager"
            return
        fi
    done
    fail "no package manager that this script knows (apt, pacman, dnf). Install QEMU, libvirt with its headers," \
        "libxkbcommon with its headers, mmdebstrap, e2fsprogs, OpenSSH, gcc, pkg-config and Python by hand."
}

# Prints nothing where the distribution has it within another package.
translate() {
    case $1:$2 in
        apt-get:*) echo "$2" ;;
        pacman:qemu-system-x86) echo qemu-base ;;
        pacman:qemu-utils) echo qemu-img ;;
        pacman:libvirt-daemon-system) echo libvirt ;;
        pacman:openssh-client) echo openssh ;;
        pacman:procps | dnf:procps) echo procps-ng ;;
        pacman:pkg-config) echo pkgconf ;;
        pacman:libxkbcommon-dev) echo libxkbcommon ;;
        pacman:xkb-data) echo xkeyboard-config ;;
        pacman:libx11-data) echo libx11 ;;
        pacman:python3-venv) echo python ;;
        pacman:libvirt-* | pacman:libc6-dev) ;;
        dnf:qemu-system-x86) echo qemu-system-x86-core qemu-device-display-virtio-vga ;;
        dnf:qemu-utils) echo qemu-img ;;
        dnf:libvirt-daemon-system) echo libvirt-daemon-driver-storage-core libvirt-daemon-log ;;
        dnf:libvirt-clients) echo libvirt-client ;;
        dnf:libvirt-dev) echo libvirt-devel ;;
        dnf:debian-archive-keyring) echo debian-keyring ;;
        dnf:openssh-client) echo openssh-clients ;;
        dnf:pkg-config) echo pkgconf-pkg-config ;;
        dnf:libc6-dev) echo glibc-devel ;;
        dnf:libxkbcommon-dev) echo libxkbcommon-devel ;;
        dnf:xkb-data) echo xkeyboard-config ;;
        dnf:libx11-data) echo libX11-common ;;
        dnf:python3-venv) echo python3 ;;
        *) echo "$2" ;;
    esac
}

is_installed() {
    case $1 in
        apt-get) [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$2" 2>/dev/null) == installed ]] ;;
        pacman) pacman --query --quiet "$2" &>/dev/null ;;
        dnf) rpm --query --quiet --whatprovides "$2" &>/dev/null ;;
    esac
}

install_with() {
    local manager=$1 hint
    shift
    hint="Package names on this distribution are untried: install what is missing by hand, then run this again."
    case $manager in
        apt-get)
            install_with_apt "$@" &>"$cache/install.log" || {
                tail -n 30 "$cache/install.log" >&2
                fail "apt could not install that; all it said is in $cache/install.log"
            }
            ;;
        # mmdebstrap is in Arch's user repository only, where pacman does not look.
        pacman) as_root pacman --sync --needed --noconfirm "$@" || fail "$hint (mmdebstrap is in the AUR.)" ;;
        dnf) as_root dnf install --assumeyes "$@" || fail "$hint" ;;
    esac
}

install_with_apt() {
    local wanted
    as_root apt-get update || return
    mapfile -t wanted < <(pin_qemu "$@")
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --allow-downgrades \
        -o Dpkg::Use-Pty=0 "${wanted[@]}"
}

# QEMU's packages only go together in one version, and a machine may carry a newer qemu-utils, say from backports, than
# the emulator that its package source has. Then the emulator's version decides for both.
pin_qemu() {
    local package version
    version=$(dpkg-query --show --showformat '${Version}' qemu-system-x86 2>/dev/null || true)
    [[ $version ]] || version=$(LC_ALL=C apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    for package in "$@"; do
        case $package in
            qemu-system-x86) printf '%s\n' "qemu-system-x86=$version" "qemu-utils=$version" ;;
            qemu-utils) echo "qemu-utils=$version" ;;
            *) echo "$package" ;;
        esac
    done
}

# --------------------------------------------------------------------------------------------------------- (b) libvirt

start_libvirt() {
    [[ -d /run/systemd/system ]] || share_kvm
    libvirt_answers && return
    if [[ -d /run/systemd/system ]]; then
        say "starting libvirt"
        # One daemon for all, or one for each part: distributions differ.
        as_root systemctl start libvirtd.service 2>/dev/null ||
            as_root systemctl start virtlogd.socket virtqemud.socket virtstoraged.socket
    else
        say "starting libvirt's daemons by hand, as there is no systemd"
        start_daemon virtlogd
        start_daemon libvirtd
    fi
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        libvirt_answers && return
        sleep 0.2
    done
    vsh uri >&2 || true
    fail "libvirt does not answer at $uri. If it says 'permission denied' or 'authentication':" \
        "sudo usermod -aG libvirt $(id -un), then log in again."
}

# What udev does where it runs. Without it libvirt finds KVM as root, misses it as QEMU's user, and takes QEMU apart
# anew to learn what it can do, which costs four seconds for every question.
share_kvm() {
    [[ -c /dev/kvm && $(stat --format %G /dev/kvm) == root ]] || return 0
    getent group kvm >/dev/null || return 0
    as_root chgrp kvm /dev/kvm
    as_root chmod 660 /dev/kvm
}

libvirt_answers() {
    vsh uri &>/dev/null
}

start_daemon() {
    pgrep -x "$1" >/dev/null && return
    # Without our lock: the daemon would keep it for as long as it runs.
    as_root "$1" --daemon 9>&-
    echo "$1" >>"$cache/started_daemons"
}

stop_started_daemons() {
    local daemon pid
    [[ -f $cache/started_daemons ]] || return 0
    while read -r daemon; do
        pid=$(cat "/run/$daemon.pid" 2>/dev/null || true)
        # A pid file may outlive its daemon, and the number may be another program's by now.
        if [[ $pid && $(cat "/proc/$pid/comm" 2>/dev/null || true) == "$daemon" ]]; then
            as_root kill "$pid"
        fi
    done < <(tac "$cache/started_daemons")
}

# ----------------------------------------------------------------------------------------------------------- (c) image

make_keys() {
    [[ -f $login_key ]] || ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$login_key"
    # Made here and not in the guest, so that a rebuilt guest is still the same host to every SSH client.
    [[ -f $host_key ]] || ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$host_key"
}

# Names the image after all that goes into it: a change of any part makes another image.
image_id() {
    {
        cat "$here/guest-image.sh" "$login_key.pub" "$host_key.pub"
        cd "$here/guest"
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-12
}

provide_image() {
    local image=$1 build sources=()
    provide_pool
    image_is_whole "$image" && return
    [[ $(uname -m) == x86_64 ]] || fail "the demo guest is an x86_64 machine, and this host is not"
    say "building the guest's disk image (once; one to three minutes)"
    build=$(mktemp -d "$cache/image.XXXXXX")
    # shellcheck disable=SC2064 # The folder of now is meant.
    trap "as_root rm -rf --one-file-system '$build'" EXIT
    mapfile -t sources < <(debian_sources)
    as_root "$here/guest-image.sh" "$build" "$login_key.pub" "$host_key" "${sources[@]}" >&2
    drop_volumes
    put_volume "$build/vmlinuz" "vmlinuz-$image"
    put_volume "$build/initrd.img" "initrd-$image"
    put_volume "$build/disk.qcow2" "base-$image.qcow2"
    # Makes libvirt look into the files, which it was given as plain bytes.
    vsh pool-refresh "$pool" >/dev/null
    echo "$image" >"$cache/image"
    as_root rm -rf --one-file-system "$build"
    trap - EXIT
}

provide_pool() {
    if ! vsh pool-info "$pool" &>/dev/null; then
        vsh pool-define-as "$pool" dir --target "$pool_folder" >/dev/null
    fi
    if [[ $(vsh pool-info "$pool") != *running* ]]; then
        vsh pool-build "$pool" >/dev/null
        vsh pool-start "$pool" >/dev/null
    fi
}

# The note in the cache is written last, when all three files are there to the end.
image_is_whole() {
    local file
    [[ $(cat "$cache/image" 2>/dev/null) == "$1" ]] || return 1
    for file in "vmlinuz-$1" "initrd-$1" "base-$1.qcow2"; do
        vsh vol-info --pool "$pool" "$file" &>/dev/null || return 1
    done
}

drop_volumes() {
    local volume
    rm -f "$cache/image"
    stop_guest
    for volume in $(vsh vol-list "$pool" | awk '{ print $1 }'); do
        vsh vol-delete --pool "$pool" "$volume" >/dev/null
    done
}

put_volume() {
    vsh vol-create-as "$pool" "$2" "$(stat --format %s "$1")" --format raw >/dev/null
    vsh vol-upload --pool "$pool" "$2" "$1" >/dev/null
}

# Where this host's own packages come from, if it is a Debian: its mirror may be the only one that it can reach.
debian_sources() {
    command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2016 # The dollars are apt's.
    apt-get indextargets --format '$(LABEL)|$(COMPONENT)|$(CREATED_BY)|$(REPO_URI)' 2>/dev/null |
        awk -F '|' '
            $1 == "Debian" && !main { main = $4 }
            $1 == "Debian-Security" && !security { security = $4 }
            END {
                if (main) print "deb " main " bookworm main"
                if (main && security) print "deb " security " bookworm-security main"
            }'
}

# ---------------------------------------------------------------------------------------------------------- (d) domain

set_up_guest() {
    local image
    install_missing "${guest_packages[@]}"
    start_libvirt
    make_keys
    image=$(image_id)
    provide_image "$image"
    if ! guest_is_current "$image" || ! await_guest; then
        start_guest "$image"
        await_guest || fail "the guest did not come up within $boot_limit s. Look: virsh -c $uri screenshot $name"
    fi
}

# What the domain's description must begin with.
description() {
    echo "image=$1 definition=$(sha256sum <"$here/demo-domain.xml" | cut -c 1-12)"
}

guest_is_current() {
    [[ $(vsh domstate "$name" 2>/dev/null) == running* ]] || return 1
    [[ $(vsh desc "$name") == "$(description "$1") port="* ]]
}

start_guest() {
    local image=$1 port
    stop_guest
    port=$(free_port)
    say "starting the guest ($(domain_type))"
    make_overlay "$image"
    fill_domain "$image" "$port" >"$cache/domain.xml"
    vsh define "$cache/domain.xml" >/dev/null
    vsh start "$name" >/dev/null
    echo "[127.0.0.1]:$port $(cut -d ' ' -f 1,2 "$host_key.pub")" >"$known_hosts"
    write_env "$port"
}

# The guest writes into a layer of its own over the image, so every start finds the image as it was built.
make_overlay() {
    local base=base-$1.qcow2 size
    vsh vol-delete --pool "$pool" overlay.qcow2 &>/dev/null || true
    size=$(vsh vol-dumpxml --pool "$pool" "$base" | sed -n "s|.*<capacity unit='bytes'>\(.*\)</capacity>.*|\1|p")
    vsh vol-create-as "$pool" overlay.qcow2 "$size" --format qcow2 \
        --backing-vol "$base" --backing-vol-format qcow2 >/dev/null
}

fill_domain() {
    local cpu="<cpu mode='host-passthrough'/>" kernel=
    if [[ $(domain_type) != kvm ]]; then
        # What emulation can do is not what it does well: with all of it (`maximum`) the guest copies memory byte by
        # byte, walks page tables of five levels, boots later, and takes what comes by SSH at half the rate.
        cpu="<cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>"
        # What was translated for one address is of no use at another: programs that are always loaded at the same
        # ones start twice as fast. And after a long run a reset hung: with 1.9 million translations kept, the kernel
        # unpacked itself at some 10 bytes a second.
        kernel=norandmaps
    fi
    sed -e "s|@TYPE@|$(domain_type)|g" -e "s|@CPU@|$cpu|g" -e "s|@KERNEL@|$kernel|g" -e "s|@NAME@|$name|g" \
        -e "s|@UUID@|$(domain_uuid)|g" -e "s|@DESCRIPTION@|$(description "$1")|g" -e "s|@IMAGE@|$1|g" \
        -e "s|@FOLDER@|$pool_folder|g" -e "s|@PORT@|$2|g" \
        "$here/demo-domain.xml"
}

# /dev/kvm can be there and be useless: without the processor's help a guest hangs in its first second.
domain_type() {
    if grep -Eqw 'vmx|svm' /proc/cpuinfo && [[ -c /dev/kvm ]] && vsh domcapabilities --virttype kvm &>/dev/null; then
        echo kvm
    else
        echo qemu
    fi
}

# virtpilot remembers a guest's host key by the domain's UUID. Made from that key, the two change together.
domain_uuid() {
    sha256sum <"$host_key.pub" | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/'
}

free_port() {
    local port=${VIRTPILOT_DEMO_PORT-}
    if [[ $port ]]; then
        [[ $port =~ ^[0-9]+$ ]] || fail "VIRTPILOT_DEMO_PORT is no port number: $port"
        port_is_free "$port" || fail "port $port on 127.0.0.1 is taken; choose another with VIRTPILOT_DEMO_PORT"
        echo "$port"
        return
    fi
    for ((port = 2222; port < 2322; port++)); do
        if port_is_free "$port"; then
            echo "$port"
            return
        fi
    done
    fail "no free port from 2222 to 2321 on 127.0.0.1"
}

port_is_free() {
    ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

write_env() {
    {
        echo "VM_NAME=$name"
        echo "VM_HOST=127.0.0.1"
        echo "VM_PORT=$1"
        printf 'VM_IDENTITY=%q\n' "$login_key"
        echo "GUEST_XAUTHORITY=$guest_xauthority"
        echo "GUEST_DISPLAY=:0"
    } >"$cache/demo.env.new"
    mv "$cache/demo.env.new" "$cache/demo.env"
}

stop_guest() {
    libvirt_answers || return 0
    if vsh dominfo "$name" &>/dev/null; then
        vsh destroy "$name" &>/dev/null || true
        vsh undefine "$name" --managed-save --snapshots-metadata --checkpoints-metadata >/dev/null
    fi
    vsh vol-delete --pool "$pool" overlay.qcow2 &>/dev/null || true
    rm -f "$cache/demo.env"
}

remove_all() {
    stop_guest
    if libvirt_answers && vsh pool-info "$pool" &>/dev/null; then
        provide_pool
        drop_volumes
        vsh pool-destroy "$pool" >/dev/null
        vsh pool-delete "$pool" >/dev/null
        vsh pool-undefine "$pool" >/dev/null
    fi
    stop_started_daemons
    rm -rf "$cache"
}

# ------------------------------------------------------------------------------------------------------------ (e) wait

await_guest() {
    local started=$SECONDS what=(sshd_answers desktop_is_up) words=("SSH server" "desktop") i
    for i in 0 1; do
        until "${what[i]}"; do
            ((SECONDS - started < boot_limit)) || return 1
            [[ $(vsh domstate "$name") == running* ]] || fail "the guest stopped; see /var/log/libvirt/qemu/$name.log"
            tick "waiting for the guest's ${words[i]}" "$((SECONDS - started))"
            sleep 0.5
        done
    done
    end_ticks "the guest is up, after $((SECONDS - started)) s"
}

# On a terminal one line that counts; in a log a line every ten seconds.
tick() {
    if [[ -t 2 ]]; then
        printf '\r\033[K    %s: %d s' "$1" "$2" >&2
    elif (($2 / 10 != last_tick)); then
        echo "    $1: $2 s" >&2
    fi
    last_tick=$(($2 / 10))
}
last_tick=-1

# Says nothing where there was nothing to wait for.
end_ticks() {
    ((last_tick >= 0)) || return 0
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    last_tick=-1
    say "$1"
}

guest_port() {
    vsh desc "$name" | sed 's/.*port=//'
}

# QEMU takes the connection before the guest does, so only the server's own words count.
sshd_answers() {
    local greeting=
    { exec 8<>"/dev/tcp/127.0.0.1/$(guest_port)"; } 2>/dev/null || return 1
    read -r -t 2 greeting <&8 || true
    exec 8>&-
    [[ $greeting == SSH-* ]]
}

# Up is when the terminal window has the keyboard and a shell runs in it.
desktop_is_up() {
    in_guest "export DISPLAY=:0 XAUTHORITY=$guest_xauthority
        pgrep -u desktop -x bash && xprop -id \$(xdotool getwindowfocus) WM_CLASS | grep XTerm" &>/dev/null
}

in_guest() {
    ssh -n -F none -i "$login_key" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 \
        -o UserKnownHostsFile="$known_hosts" -o StrictHostKeyChecking=yes -p "$(guest_port)" root@127.0.0.1 "$@"
}

# --------------------------------------------------------------------------------------------- (f) build and (g) play

build_virtpilot() {
    command -v cargo >/dev/null || fail "no cargo. Install Rust (see the README), then run this again."
    say "building virtpilot"
    (cd "$repo" && cargo build --release --locked)
}

binary() {
    echo "${CARGO_TARGET_DIR:-$repo/target}/release/virtpilot"
}

play_session() {
    provide_python
    say "playing a session in the guest"
    VM_NAME=$name VM_USER=vmrobot VM_IDENTITY=$login_key \
        "$cache/venv/bin/python" "$here/play.py" --server "$(binary)" --pictures "$cache/pictures"
}

# An environment of its own, as distributions forbid pip to touch theirs.
provide_python() {
    "$cache/venv/bin/python" -c 'import mcp' 2>/dev/null && return
    say "installing the MCP client library for Python"
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check 'mcp>=2,<3'
}

# ------------------------------------------------------------------------------------------------------- (h) last word

print_summary() {
    cat <<TEXT

Done: the guest $name runs, and virtpilot saw it, typed in it and ran commands in it.
Pictures: $cache/pictures
Watch it: virt-viewer -c $uri $name

To let an MCP client drive it, paste this into the client's configuration:

{
  "mcpServers": {
    "qemu-vm-control": {
      "command": "$(binary)",
      "env": {
        "VM_NAME": "$name",
        "VM_USER": "vmrobot",
        "VM_IDENTITY": "$login_key"
      }
    }
  }
}

Stop the guest: guest-setup/demo.sh --stop      Remove everything: guest-setup/demo.sh --remove
TEXT
}

main "$@"
