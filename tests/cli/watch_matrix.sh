#!/usr/bin/env bash
# Real editors and tools on a watched file: each changes it three times in a row, and each change must be one report,
# seen by inotify (the probe's clock lets no poll come). What is not installed is skipped, and named.
# Usage: watch_matrix.sh BUILD_DIRECTORY
set -euo pipefail

build=$(realpath "${1:?usage: watch_matrix.sh BUILD_DIRECTORY}")
probe=$(find "$build" -name watch_probe -type f -perm -u+x | head -n 1)
[ -n "$probe" ] || { echo "watch_probe is not built in $build" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Programs that ask for a terminal or a home get none of ours.
export HOME=$work/home TERM=dumb GIT_CONFIG_NOSYSTEM=1
mkdir "$HOME"

# The texts that were reported so far. On a busy machine a tool may leave the name empty for longer than the watch waits:
# then it is rightly reported gone as well.
read_texts() { mapfile -t texts < <(grep '^TEXT ' "$log"); }

# Waits until as many texts were reported, 10 s at most: it is a bound, not a measure.
wait_for_texts() {
    local tries
    for ((tries = 0; tries < 500; tries++)); do
        read_texts
        [ ${#texts[@]} -lt "$1" ] || return 0
        sleep 0.02
    done
    return 1
}

# try NAME PREPARE CHANGE, in a fresh directory. CHANGE is called with N and must make the text {"n": N}.
try() {
    local name=$1 prepare=$2 change=$3 n before
    local probe_pid
    mkdir conf
    "$prepare"
    : >"$log"
    "$probe" "$PWD/conf/flags.json" 60 >"$log" &
    probe_pid=$!
    # shellcheck disable=SC2064  # the pid of now
    trap "kill $probe_pid && wait $probe_pid || true" EXIT
    wait_for_texts 1 || { echo "FAIL $name: the probe does not start"; return; }
    for n in 1 2 3; do
        before=${#texts[@]}
        if ! "$change" "$n" >"$log.tool" 2>&1; then
            echo "FAIL $name, change $n: the tool failed:"
            cat "$log.tool"
            return
        fi
        wait_for_texts $((before + 1)) || true
        # What would come twice, comes within the 100 ms of a doubt.
        sleep 0.2
        read_texts
        if [ ${#texts[@]} != $((before + 1)) ] || [ "${texts[-1]}" != "TEXT {\"n\": $n}" ]; then
            echo "FAIL $name, change $n: wanted one report of {\"n\": $n}, got:"
            printf '    %s\n' "${texts[@]:before}"
            return
        fi
        echo "seen $name $n"
    done
}

# row NAME TOOL PREPARE CHANGE: four at a time, each in a subshell with a directory and a log of its own.
running=0
rows=0
row() {
    local name=$1 tool=$2
    rows=$((rows + 1))
    if [ "$tool" != - ] && ! command -v "$tool" >/dev/null; then
        echo "skipped: $name ($tool is not installed)" >"$(mktemp "$work/XXXXXX.out")"
        return
    fi
    if [ $((running += 1)) -gt 4 ]; then
        wait -n || true
    fi
    (
        dir=$(mktemp -d "$work/XXXXXX")
        log=$dir.log
        cd "$dir"
        try "$name" "$3" "$4" >"$dir.out" 2>&1
    ) &
}

plain() { echo '{"n": 0}' >conf/flags.json; }

with_vim() { # OPTIONS N
    vim -Nu NONE -n -es -c "set $1" -c "%s/.*/{\"n\": $2}/" -c wq conf/flags.json </dev/null
}
vim_defaults() { with_vim "nobackup writebackup backupcopy=auto" "$1"; }
vim_renames() { with_vim "backup backupcopy=no" "$1"; }
vim_copies() { with_vim "backup backupcopy=yes" "$1"; }
vim_no_backup() { with_vim "nobackup nowritebackup" "$1"; }
vim_swap() { vim -Nu NONE -es -c "set swapfile directory=." -c "%s/.*/{\"n\": $1}/" -c wq conf/flags.json </dev/null; }
with_emacs() { emacs -Q --batch conf/flags.json --eval "(progn (erase-buffer) (insert \"{\\\"n\\\": $1}\n\") (save-buffer))"; }
with_ed() { printf '1c\n{"n": %d}\n.\nw\nq\n' "$1" | ed -s conf/flags.json; }
with_sed() { sed -i "s/.*/{\"n\": $1}/" conf/flags.json; }
with_sed_backup() { sed -i.bak "s/.*/{\"n\": $1}/" conf/flags.json; }
with_perl() { perl -pi -e "s/.*/{\"n\": $1}/" conf/flags.json; }
with_python() { python3 -c "open('conf/flags.json', 'w').write('{\"n\": $1}\n')"; }
with_shell() { echo "{\"n\": $1}" >conf/flags.json; }
with_tee() { echo "{\"n\": $1}" | tee conf/flags.json; }
with_dd() { printf '{"n": %d}' "$1" | dd of=conf/flags.json conv=notrunc status=none; }
with_truncate() { truncate -s 0 conf/flags.json && echo "{\"n\": $1}" >>conf/flags.json; }
with_cp() { echo "{\"n\": $1}" >new && cp new conf/flags.json; }
with_cp_p() { echo "{\"n\": $1}" >new && touch -d "2001-02-03 0$1:00" new && cp -p new conf/flags.json; }
with_cp_unlink() { echo "{\"n\": $1}" >new && cp --remove-destination new conf/flags.json; }
with_mv() { echo "{\"n\": $1}" >conf/.new && mv -f conf/.new conf/flags.json; }
with_mv_older() { echo "{\"n\": $1}" >new && touch -d "2001-02-03 04:05" new && mv -f new conf/flags.json; }
with_install() { echo "{\"n\": $1}" >new && install -m 0640 new conf/flags.json; }
with_ln() { echo "{\"n\": $1}" >"conf/$1" && ln -f "conf/$1" conf/flags.json; }
with_rsync() { echo "{\"n\": $1}" >new && rsync -a --checksum new conf/flags.json; }
as_rsync() { # a hidden file beside it, times of the source, then a rename
    echo "{\"n\": $1}" >conf/.flags.json.a1B2c3 && touch -d "2001-02-03 04:05" conf/.flags.json.a1B2c3 &&
        mv -f conf/.flags.json.a1B2c3 conf/flags.json
}
with_rm() { rm conf/flags.json && echo "{\"n\": $1}" >conf/flags.json; }
with_directory() { mv conf away && echo "{\"n\": $1}" >away/flags.json && mv away conf; }
with_new_directory() { mkdir new && echo "{\"n\": $1}" >new/flags.json && mv conf old && mv new conf && rm -r old; }
with_tar() { mkdir -p t/conf && echo "{\"n\": $1}" >t/conf/flags.json && tar -C t -cf t.tar conf && tar -xf t.tar; }
with_patch() { printf -- '--- a\n+++ b\n@@ -1 +1 @@\n-{"n": %d}\n+{"n": %d}\n' $(($1 - 1)) "$1" | patch -s conf/flags.json; }

git_start() {
    plain
    git -c init.defaultBranch=main init -q conf
    local n
    for n in 0 1 2 3; do
        echo "{\"n\": $n}" >conf/flags.json
        git -C conf add flags.json
        git -C conf -c user.name=n -c user.email=n@example.invalid commit -q -m "$n"
        git -C conf tag "v$n"
    done
    git -C conf checkout -q v0
}
with_git() { git -C conf checkout -q "v$1"; }

# As the kubelet writes a ConfigMap's volume.
kubernetes_start() { kubernetes 0 && ln -s ..data/flags.json conf/flags.json; }
kubernetes() {
    local old
    old=$(readlink conf/..data || true)
    mkdir "conf/..2026_$1" && echo "{\"n\": $1}" >"conf/..2026_$1/flags.json" && ln -s "..2026_$1" conf/..data_tmp &&
        mv -T conf/..data_tmp conf/..data && if [ -n "$old" ]; then rm -r "conf/$old"; fi
}

link_start() { mkdir real && echo '{"n": 0}' >real/flags.json && ln -s ../real/flags.json conf/flags.json; }
with_link_target() { echo "{\"n\": $1}" >real/flags.json; }
with_link_target_sed() { sed -i "s/.*/{\"n\": $1}/" real/flags.json; }
with_link_target_vim() { vim_defaults "$1"; }
with_ln_s() { echo "{\"n\": $1}" >"real/$1" && ln -sfn "../real/$1" conf/flags.json; }

row "vim, defaults" vim plain vim_defaults
row "vim, backup by renaming" vim plain vim_renames
row "vim, backup by copying" vim plain vim_copies
row "vim, no backup" vim plain vim_no_backup
row "vim, swap file" vim plain vim_swap
row "emacs" emacs plain with_emacs
row "ed" ed plain with_ed
row "sed -i" sed plain with_sed
row "sed -i.bak" sed plain with_sed_backup
row "perl -i" perl plain with_perl
row "python" python3 plain with_python
row "shell >" - plain with_shell
row "tee" tee plain with_tee
row "dd, in place" dd plain with_dd
row "truncate, then append" truncate plain with_truncate
row "cp" cp plain with_cp
row "cp -p, older" cp plain with_cp_p
row "cp --remove-destination" cp plain with_cp_unlink
row "mv over" mv plain with_mv
row "mv over, older" mv plain with_mv_older
row "install" install plain with_install
row "ln -f" ln plain with_ln
row "rsync" rsync plain with_rsync
row "as rsync does" - plain as_rsync
row "rm, then write" rm plain with_rm
row "directory away and back" mv plain with_directory
row "directory replaced" mv plain with_new_directory
row "tar -x" tar plain with_tar
row "patch" patch plain with_patch
row "git checkout" git git_start with_git
row "Kubernetes ConfigMap" mv kubernetes_start kubernetes
row "link's target, shell >" - link_start with_link_target
row "link's target, sed -i" sed link_start with_link_target_sed
row "link's target, vim" vim link_start with_link_target_vim
row "ln -sfn" ln link_start with_ln_s

wait
cat "$work"/*.out >"$work/all"
grep -v '^seen ' "$work/all" || true
passed=$(grep -c '^seen ' "$work/all" || true)
failed=$(grep -c '^FAIL ' "$work/all" || true)
skipped=$(grep -c '^skipped: ' "$work/all" || true)
echo "$passed changes seen, each as one report; $skipped tools skipped; $failed failed"
[ "$failed" = 0 ] && [ "$passed" = $(((rows - skipped) * 3)) ] && [ "$passed" -ge 60 ]
