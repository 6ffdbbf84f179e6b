#!/usr/bin/env bash
# The installed systemd unit is sound, hardened, and keeps what readers live on.
# Usage: unit.sh BUILD_DIRECTORY
set -euo pipefail

build=$(cd "${1:?usage: unit.sh BUILD_DIRECTORY}" && pwd)
work=$(mktemp -d /tmp/flagshm-unit-XXXXXX) # not in TMPDIR: the paths of a unit take no space
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

cmake --install "$build" --prefix "$work/usr" --component server >"$work/log" || { cat "$work/log"; exit 1; }
unit=$work/usr/lib/systemd/system/flagshmd.service

verify() { # UNIT; what systemd says of this unit alone: a bare machine's other units may be at fault
    systemd-analyze verify --man=no --recursive-errors=no "$1" 2>&1 | grep -F flagshmd || true
}
# Where systemd does not run, systemd-analyze makes its directory itself, if it may.
if [ -d /run/systemd ] || [ "$(id -u)" = 0 ]; then
    said=$(verify "$unit")
    [ -z "$said" ] || fail "systemd-analyze verify: $said"
    sed 's/^Type=notify/Type=notified/' "$unit" >"$work/flagshmd.service"
    [ -n "$(verify "$work/flagshmd.service")" ] || fail "systemd-analyze verify finds nothing in a broken unit either"

    # The threshold counts tenths.
    systemd-analyze security --no-pager --offline=true --threshold=20 "$unit" >"$work/security" ||
        fail "exposure over 2.0: $(tail -n 1 "$work/security")"
    tail -n 1 "$work/security"
else
    echo "skipped: systemd-analyze needs /run/systemd: systemd does not run here, and only root can make it"
fi

# What a stop must not take away, and a broken file not prevent.
for line in Type=notify RemoveIPC=no RuntimeDirectory=flagshm RuntimeDirectoryPreserve=yes StateDirectory=flagshm User=flagshm; do
    grep -qx "$line" "$unit" || fail "the unit lacks $line"
done
! grep -q '^DynamicUser' "$unit" || fail "DynamicUser deletes the table at every stop"
! grep -q '^ProcSubset' "$unit" || fail "ProcSubset hides the boot id"
# Webhooks: the families that libcurl and the resolver need, no others, and nothing that takes the network away again.
families=$(sed -n 's/^RestrictAddressFamilies=//p' "$unit" | tr ' ' '\n' | sort | tr '\n' ' ')
[ "$families" = "AF_INET AF_INET6 AF_NETLINK AF_UNIX " ] || fail "the unit's address families are $families"
! grep -qE '^(PrivateNetwork=yes|IPAddressDeny=)' "$unit" || fail "webhooks do not get out of the unit"
grep -q '^ExecStartPre=-' "$unit" || fail "a broken file keeps the server from starting"

# Every option of the command line is one that flagshmd knows.
"$work/usr/sbin/flagshmd" --help >"$work/help"
while read -r option; do
    grep -qe "$option " "$work/help" || fail "flagshmd has no $option"
done < <(sed -n 's/^ExecStart=//p' "$unit" | grep -o -e '--[a-z-]*')

# Users, groups and directories: on a root of their own.
mkdir -p "$work/root/etc"
systemd-sysusers --root="$work/root" "$work/usr/lib/sysusers.d/flagshm.conf" >"$work/log" 2>&1 || fail "systemd-sysusers"
grep -q '^flagshm:' "$work/root/etc/passwd" || fail "no user flagshm"
grep -q '^flagshm-admin:.*flagshm' "$work/root/etc/group" || fail "the server is not in flagshm-admin"
grep -q '^flagshm-clients:.*flagshm' "$work/root/etc/group" || fail "the server is not in flagshm-clients"
if [ "$(id -u)" = 0 ]; then
    systemd-tmpfiles --root="$work/root" --create "$work/usr/lib/tmpfiles.d/flagshm.conf" || fail "systemd-tmpfiles"
    uid=$(sed -n 's/^flagshm:[^:]*:\([0-9]*\):.*/\1/p' "$work/root/etc/passwd")
    [ "$(stat -c '%u %a' "$work/root/run/flagshm")" = "$uid 755" ] || fail "/run/flagshm is not the server's"
    [ "$(stat -c '%u %a' "$work/root/etc/flagshm")" = "0 755" ] || fail "/etc/flagshm is not root's"
else
    echo "skipped: systemd-tmpfiles --create needs root"
fi
[ "$failures" = 0 ] || exit 1
