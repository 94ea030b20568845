"""A picture of what a command prints on a terminal, for the README: python docs/images/terminal.py
OUT.svg COMMAND [ARG …]"""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

from rich.console import Console
from rich.text import Text

WIDTH = 100
out, *command = sys.argv[1:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, WIDTH, 0, 0))
process = subprocess.Popen(
    command, stdout=theirs, stderr=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm-256color"}
)
os.close(theirs)
shown = b""
while True:
    try:
        piece = os.read(ours, 65536)
    except OSError:  # the terminal closes with the command
        break
    if not piece:
        break
    shown += piece
if process.wait() != 0:
    raise SystemExit(f"{' '.join(command)} failed")
console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
console.print(
    Text.from_ansi("$ " + " ".join(command) + "\n\n" + shown.decode().replace("\r\n", "\n"))
)
console.save_svg(out, title="thresher")
