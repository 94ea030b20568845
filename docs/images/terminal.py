"""A picture of what a command prints, for the README: python docs/images/terminal.py OUT.svg COMMAND [ARG …]"""

import io
import os
import subprocess
import sys

from rich.console import Console
from rich.text import Text

out, *command = sys.argv[1:]
width = 100
shown = subprocess.run(
    command,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(width)},
).stdout
console = Console(record=True, width=width + 16, file=io.StringIO(), force_terminal=True)
console.print(Text.from_ansi("$ " + " ".join(command) + "\n\n" + shown))
console.save_svg(out, title="thresher")
