"""``mapix completion SHELL``: scripts that complete commands, options and names of records."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]

DESCRIPTION = """Print a script that completes commands, options, columns and names of records.
bash: add `eval "$(mapix completion bash)"` to ~/.bashrc; zsh: the same in ~/.zshrc, after compinit;
fish: mapix completion fish > ~/.config/fish/completions/mapix.fish"""

SCRIPTS = {
    "bash": """_mapix() {
    local IFS=$'\\n'
    COMPREPLY=($(mapix __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -o bashdefault -F _mapix mapix
""",
    "zsh": """_mapix() {
    local -a found
    found=("${(@f)$(mapix __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _mapix mapix
""",
    "fish": """function __mapix_complete
    set -l words (commandline -opc) (commandline -ct)
    mapix __complete $words[2..-1] 2>/dev/null
end
complete -c mapix -a '(__mapix_complete)'
""",
}


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("shell", choices=SCRIPTS)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    print(SCRIPTS[arguments.shell], end="")
