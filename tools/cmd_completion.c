/* completion: the scripts that teach shells to complete flagctl. They know nothing themselves and ask `flagctl __complete`. */
#include "tools/flagctl.h"

#include <string.h>

static const char bash_script[] =
    "# bash completion for flagctl: eval \"$(flagctl completion bash)\"\n"
    "_flagctl()\n"
    "{\n"
    "    local line words cur\n"
    "    COMPREPLY=()\n"
    "    cur=${COMP_WORDS[COMP_CWORD]}\n"
    "    words=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n"
    "    while IFS= read -r line; do\n"
    "        if [ \"$line\" = :files ]; then\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            while IFS= read -r line; do\n"
    "                COMPREPLY+=(\"$line\")\n"
    "            done < <(compgen -f -- \"$cur\")\n"
    "        else\n"
    "            COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
    "        fi\n"
    "    done < <(\"${COMP_WORDS[0]:-flagctl}\" __complete \"${words[@]}\" \"$cur\" 2>/dev/null)\n"
    "}\n"
    "complete -F _flagctl flagctl\n";

static const char zsh_script[] =
    "#compdef flagctl\n"
    "# zsh completion for flagctl: eval \"$(flagctl completion zsh)\", or a file _flagctl in $fpath\n"
    "_flagctl()\n"
    "{\n"
    "    local line wants_files\n"
    "    local -a candidates\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            wants_files=1\n"
    "        else\n"
    "            candidates+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
    "        fi\n"
    "    done < <(\"${words[1]}\" __complete \"${(@)words[2,CURRENT-1]}\" \"${(Q)PREFIX}\" 2>/dev/null)\n"
    "    (( ${#candidates} )) && _describe -V flagctl candidates\n"
    "    [[ -n $wants_files ]] && _files\n"
    "}\n"
    "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
    "    _flagctl \"$@\"\n"
    "elif (( $+functions[compdef] )); then\n"
    "    compdef _flagctl flagctl\n"
    "fi\n";

static const char fish_script[] =
    "# fish completion for flagctl: flagctl completion fish | source\n"
    "function __flagctl_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l cur (commandline -ct)\n"
    "    for line in ($words[1] __complete $words[2..-1] \"$cur\" 2>/dev/null)\n"
    "        if test \"$line\" = ':files'\n"
    "            __fish_complete_path \"$cur\"\n"
    "        else\n"
    "            echo -- $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c flagctl -f -k -a '(__flagctl_complete)'\n";

static int completion_run(struct flagctl *ctl, int argc, char **argv)
{
    static const struct {
        const char *shell, *script;
    } scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    size_t i;

    (void)argc;
    for (i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        if (strcmp(argv[0], scripts[i].shell) == 0) {
            (void)fputs(scripts[i].script, ctl->out);
            return FLAGCTL_OK;
        }
    }
    return flagctl_fail(ctl, FLAGCTL_USAGE,
                        "there are completions for bash, zsh and fish, not for \"%.100s\"", argv[0]);
}

const struct flagctl_command flagctl_completion_command = {
    .name = "completion",
    .group = "Help",
    .arguments = "bash|zsh|fish",
    .argument_kinds = {FLAGCTL_SHELL},
    .summary = "print the completion script of a shell",
    .help = "    bash: eval \"$(flagctl completion bash)\"       in ~/.bashrc\n"
            "    zsh:  eval \"$(flagctl completion zsh)\"        in ~/.zshrc, behind compinit\n"
            "    fish: flagctl completion fish | source        in ~/.config/fish/config.fish\n\n"
            "Packages install them already. Flag names are those of the table served now.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = completion_run,
};
