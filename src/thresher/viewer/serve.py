"""The process: a socket on 127.0.0.1, the address with its token on stdout, and a quiet end at
Ctrl-C.

Touches the network of this machine only (loopback), and the user's browser where one is asked for.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from thresher.errors import ConfigError
from thresher.extras import require


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1; `port` 0: any that is free. Raises ConfigError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen()  # from now on connections wait until they are served
    except (OSError, OverflowError) as error:
        made.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f": {why}. Leave it out, and a free port is taken.", option="port", value=port
        ) from error
    return made


def view(folder: str | Path, port: int, browser: bool, say: Callable[[str], None]) -> None:
    """Open a selection and serve it until Ctrl-C.

    Arguments:
        folder: an output folder of `select`.
        port: of 127.0.0.1; 0: any free one.
        browser: open the address in a browser if there is a screen.
        say: displays a line to the user.

    Raises MissingExtra, ConfigError, PoolError, StoreError.
    """
    require("view", "thresher view")
    import uvicorn

    from thresher.viewer.app import application
    from thresher.viewer.guard import Guard, Keys
    from thresher.viewer.session import Session

    made = listen(port)
    try:
        session = Session(folder)
        keys, port = Keys(), made.getsockname()[1]
        app = Guard(application(session, keys), port, keys)
        address = f"http://127.0.0.1:{port}/#token={keys.token}"
        say(address)
        if browser and _has_screen():
            import webbrowser

            webbrowser.open(address)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        uvicorn.Server(config).run(sockets=[made])
    except KeyboardInterrupt:
        return  # the ordinary end
    finally:
        made.close()


def _has_screen() -> bool:
    """Whether a browser can show itself: elsewhere a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ) and not os.environ.get("SSH_CONNECTION")
