# SPDX-License-Identifier: Apache-2.0
"""``dualfocus completion SHELL``: the code by which a shell asks this command for completions."""

from __future__ import annotations

import argparse

from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import CommandError

SHELLS = ('bash', 'zsh', 'fish')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('shell', choices=SHELLS, metavar='SHELL', help=', '.join(SHELLS))
    parser.epilog = (
        'source activate.sh, or the setup file of a workspace, does it for bash and zsh.\n'
        'Otherwise, in the start-up file of the shell:\n'
        '  bash, zsh:  eval "$(dualfocus completion bash)"   # or zsh\n'
        '  fish:       dualfocus completion fish | source'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the code."""
    try:
        import argcomplete
    except ImportError:
        raise CommandError(
            'completion needs argcomplete: pip install argcomplete, or apt install '
            'python3-argcomplete'
        ) from None
    # What argcomplete has for bash is for zsh too; before its version 3 by the emulation of bash.
    shell = 'fish' if arguments.shell == 'fish' else 'bash'
    code = argcomplete.shellcode(['dualfocus'], shell=shell)
    if arguments.shell == 'zsh' and 'ZSH_VERSION' not in code:
        code = f'autoload -U +X bashcompinit && bashcompinit\n{code}'
    echo(code)
    return 0
