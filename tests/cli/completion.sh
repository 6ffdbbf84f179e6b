#!/usr/bin/env bash
# The completions of bash, zsh and fish, asked as those shells ask. Usage: completion.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

flags_file "$(flag alpha 5), $(flag alpine 5), $(flag beta 100)"
"$build/tests/table_publish" --instance "$instance" "$file" >/dev/null
mkdir "$work/bin"
ln -s "$flagctl" "$work/bin/flagctl"
export PATH=$work/bin:$PATH
cd "$work"
candidates() { flagctl __complete "$@" | cut -f1 | sort | tr '\n' ' '; }

case_ "candidates: commands, flags of the table, options, values"
expect "get " "$(candidates ge)"
expect "alpha alpine " "$(candidates get al)"
expect "alpha alpine beta " "$(candidates eval '')"
expect "" "$(candidates get alpha '')"
expect "--explain " "$(candidates eval --ex)"
expect "json " "$(candidates list -o j)"
expect "alpha alpine " "$(candidates -o json get -i "$instance" al)"
expect "" "$(candidates get -i nosuchinstance al)"
expect ":files " "$(candidates lint '')"
expect ":files " "$(candidates --file '')"
expect "bash fish zsh " "$(candidates completion '')"
expect "" "$(candidates nosuchcommand '')"
expect "" "$(flagctl list | grep __complete || :)"

case_ "bash"
answer=$(bash --norc -c 'eval "$(flagctl completion bash)"; complete -p flagctl >/dev/null
    ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _flagctl; echo "${COMPREPLY[*]}"; }
    ask flagctl wat; ask flagctl get al; ask flagctl eval alpha --expl; ask flagctl lint flags.j; ask flagctl __')
expect "$(printf 'watch\nalpha alpine\n--explain\nflags.json\n')" "$answer"

case_ "fish"
if command -v fish >/dev/null; then
    ask_fish() { HOME=$work fish --no-config -c 'flagctl completion fish | source; complete -C $argv[1]' "$1" | cut -f1 | tr '\n' ' '; }
    expect "watch " "$(ask_fish 'flagctl wat')"
    expect "alpha alpine " "$(ask_fish 'flagctl get al')"
    expect "--explain " "$(ask_fish 'flagctl eval alpha --expl')"
    expect "flags.json " "$(ask_fish 'flagctl lint flags.j')"
else
    echo "skipped: fish is not installed"
fi

case_ "zsh"
if command -v zsh >/dev/null; then
    # The completed line goes to echo: what the shell prints is what stood in it.
    cat >ask.zsh <<'ZSH'
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; bindkey -e; '"$2"'; echo REA""DY'
seen=
while [[ $seen != *READY* ]]; do zpty -r shell line || exit 1; seen+=$line; done
zpty -w -n shell "$1"$'\t'
zpty -w -n shell $'\C-aecho GOT: \n'
zpty -w shell 'exit'
while zpty -r shell line; do print -r -- "$line"; done
ZSH
    # LINE [HOW THE SCRIPT IS LOADED]
    by_eval='autoload -U compinit; compinit -u -D; eval "$(flagctl completion zsh)"'
    ask_zsh() { HOME=$work timeout 30 zsh -f ask.zsh "$1" "${2:-$by_eval}" | tr -d '\r' | grep '^GOT:' | sed 's/ *$//'; }
    expect 'GOT: flagctl watch' "$(ask_zsh 'flagctl wat')"
    expect 'GOT: flagctl get beta' "$(ask_zsh 'flagctl get be')"
    expect 'GOT: flagctl eval alpha --explain' "$(ask_zsh 'flagctl eval alpha --expl')"
    mkdir site
    flagctl completion zsh >site/_flagctl
    # shellcheck disable=SC2016 # zsh is to expand it
    expect 'GOT: flagctl get beta' "$(ask_zsh 'flagctl get be' 'fpath=($HOME/site $fpath); autoload -U compinit; compinit -u -D')"
    expect 'GOT: flagctl get be' "$(ask_zsh 'flagctl get be' ':')" # without it there is nothing
else
    echo "skipped: zsh is not installed"
fi
