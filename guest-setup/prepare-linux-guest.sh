#!/bin/sh
# Run inside a Linux guest, as root: makes it reachable by SSH for virtpilot's commands and file transfers.
# Screen, mouse and keyboard need nothing in the guest, and nothing is done for them here.
# Plain sh, as a guest need not have bash.
set -eu

user=vmrobot
key=

usage() {
    cat <<'TEXT'
usage: prepare-linux-guest.sh (--key "ssh-ed25519 AAAA... name" | --key-file FILE) [--user NAME]

Run inside the guest, as root. Installs and starts the SSH server, makes the user NAME (vmrobot) without a password if
it is not there, and lets the given public key in. A second run changes nothing that is right already.

  --key TEXT        the public key, as one line
  --key-file FILE   a file with the public key, for example id_ed25519.pub
  --user NAME       the user's name
  --help            this text
TEXT
}

main() {
    read_options "$@"
    [ "$(id -u)" = 0 ] || fail "this needs root: put sudo before it"
    check_key
    install_server
    make_user
    authorize_key
    start_server
    echo "Ready: ssh $user@$(address)"
}

fail() {
    echo "prepare-linux-guest.sh: $*" >&2
    exit 1
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h)
                usage
                exit
                ;;
            --key | --key-file | --user) [ $# -gt 1 ] || fail "$1 needs a value" ;;
            *) fail "unknown option: $1 (see --help)" ;;
        esac
        case $1 in
            --key) key=$2 ;;
            --key-file) key=$(cat "$2") || fail "cannot read $2" ;;
            --user) user=$2 ;;
        esac
        shift 2
    done
    [ "$key" ] || fail "no key given: --key or --key-file (see --help)"
    case $user in
        root) fail "virtpilot needs no root: choose a user of its own" ;;
        *[!a-z0-9_-]* | [!a-z_]* | '') fail "no user name: '$user' (lower case letters, digits, - and _)" ;;
    esac
}

# A private key pasted here by mistake would end up readable, and would not work either.
check_key() {
    case $key in
        *"PRIVATE KEY"*) fail "that is a private key; the public one is in the file that ends in .pub" ;;
        *"
"*) fail "more than one line: give one public key" ;;
        ssh-ed25519\ * | ssh-rsa\ * | ecdsa-sha2-*\ * | sk-ssh-*\ * | sk-ecdsa-*\ *) ;;
        *) fail "no public key: '$key'" ;;
    esac
}

install_server() {
    if has sshd; then
        return
    elif has apt-get; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq openssh-server
    elif has dnf; then
        dnf install --assumeyes openssh-server
    elif has pacman; then
        pacman --sync --refresh --needed --noconfirm openssh
    elif has zypper; then
        zypper --non-interactive install openssh
    else
        fail "no package manager that this script knows (apt, dnf, pacman, zypper): install an SSH server by hand"
    fi
}

# Servers lie in sbin folders, which a root shell made by su may not search.
has() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null
}

make_user() {
    PATH=$PATH:/usr/sbin:/sbin
    # A user that is there already may be somebody's own: the password stays as it is.
    if id "$user" >/dev/null 2>&1; then
        return
    fi
    useradd --create-home --shell "$(shell)" "$user"
    # A star matches no password. An exclamation mark would lock keys out as well on servers without PAM.
    usermod --password '*' "$user"
}

shell() {
    if [ -x /bin/bash ]; then echo /bin/bash; else echo /bin/sh; fi
}

# As the user itself, so that a link in its folder leads no further than the user could go anyway. The modes are those
# that the server insists on: it ignores keys where others may write.
authorize_key() {
    # shellcheck disable=SC2016 # The dollars are the inner shell's.
    printf '%s\n' "$key" | su -s /bin/sh -c '
        set -eu
        umask 077
        read -r key
        cd
        mkdir -p .ssh
        touch .ssh/authorized_keys
        # A last line without its end would swallow the new key.
        [ -z "$(tail -c 1 .ssh/authorized_keys)" ] || echo >>.ssh/authorized_keys
        grep -qxF -e "$key" .ssh/authorized_keys || printf "%s\n" "$key" >>.ssh/authorized_keys
        chmod go-w .
        chmod 700 .ssh
        chmod 600 .ssh/authorized_keys' "$user"
    # Fedora and its kin refuse files with the wrong label, too.
    if has restorecon; then restorecon -R "$(getent passwd "$user" | cut -d : -f 6)/.ssh"; fi
}

start_server() {
    if [ -d /run/systemd/system ]; then
        # Debian calls it ssh, the others sshd.
        systemctl enable --now ssh.service 2>/dev/null || systemctl enable --now sshd.service
    elif has rc-service; then
        rc-update add sshd default
        rc-service sshd start
    elif has service; then
        service ssh start || service sshd start
    else
        echo "No service manager found: start sshd by hand." >&2
    fi
}

address() {
    found=$(hostname -I 2>/dev/null | cut -d ' ' -f 1) || true
    echo "${found:-THIS_GUEST}"
}

main "$@"
