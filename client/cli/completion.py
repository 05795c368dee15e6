"""pluginctl completion: the script by which a shell completes what is typed. It asks `pluginctl __complete`."""

from __future__ import annotations

from collections.abc import Mapping

from client.cli.command import Argument, Command, Commands, Options
from client.cli.output import Context

_BASH = r"""# Completion of pluginctl for bash. To install it, for yourself:
#   mkdir -p ~/.local/share/bash-completion/completions
#   pluginctl completion bash > ~/.local/share/bash-completion/completions/pluginctl
# or without the package bash-completion, in ~/.bashrc: eval "$(pluginctl completion bash)"
_pluginctl() {
    local line current=${COMP_WORDS[COMP_CWORD]}
    current=${current#[\'\"]}
    [[ $current == "=" ]] && current=
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files | :dirs)
                compopt -o filenames 2>/dev/null # not where it is called by hand
                while IFS= read -r line; do
                    COMPREPLY+=("$line")
                done < <(compgen "$([[ $line == :dirs ]] && echo -d || echo -f)" -- "$current")
                ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${1/#\~\//$HOME/}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _pluginctl pluginctl
"""
_ZSH = r"""#compdef pluginctl
# Completion of pluginctl for zsh. To install it, for yourself:
#   mkdir -p ~/.zfunc && pluginctl completion zsh > ~/.zfunc/_pluginctl
# and in ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -Uz compinit && compinit
# or, behind compinit: eval "$(pluginctl completion zsh)"
_pluginctl() {
    local line word about
    local -a found
    while IFS= read -r line; do
        case $line in
            :files) _files ;;
            :dirs) _files -/ ;;
            *)
                word=${line%%$'\t'*}
                about=${line#"$word"}
                found+=("${word//:/\\:}${about:+:${about#$'\t'}}")
                ;;
        esac
    done < <("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( $#found )) && _describe pluginctl found
}
if [[ ${funcstack[1]} == _pluginctl ]]; then
    _pluginctl "$@"
else
    compdef _pluginctl pluginctl
fi
"""
_FISH = r"""# Completion of pluginctl for fish. To install it, for yourself:
#   pluginctl completion fish > ~/.config/fish/completions/pluginctl.fish
function __pluginctl_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete $words "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case :dirs
                __fish_complete_directories "$current"
            case '*'
                printf '%s\n' $line
        end
    end
end
complete --command pluginctl --no-files --arguments '(__pluginctl_complete)'
"""
SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def _completion(context: Context, options: Options) -> None:
    script = SCRIPTS[options.shell]
    context.show({"shell": options.shell, "script": script}, script)


COMMANDS: Commands = {
    "completion": Command(
        _completion,
        "Print a script by which the shell completes commands, options, plugins, jobs, runs and methods. Its first "
        'lines say where to put it; for this shell alone: eval "$(pluginctl completion bash)".',
        "completion bash > ~/.local/share/bash-completion/completions/pluginctl",
        Argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help="bash, zsh or fish"),
    ),
}
