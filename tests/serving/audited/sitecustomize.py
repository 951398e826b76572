"""Put on the path of a service under test: every file opened, connection made and process started is a line in a file.

The file is named by ``AUDITED``. A line is the event, a tab, and its first argument.
"""

import os
import sys

_EVENTS = frozenset(
    {"open", "os.listdir", "os.scandir", "os.system", "os.exec", "os.posix_spawn", "os.fork", "glob.glob", "pickle.find_class"}
    | {"subprocess.Popen", "socket.connect", "socket.getaddrinfo", "urllib.Request", "sqlite3.connect", "ctypes.dlopen"}
)
if os.environ.get("AUDITED"):
    _file = os.open(os.environ["AUDITED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _heard(event: str, arguments: tuple) -> None:
        if event in _EVENTS:
            told = arguments[1] if event == "socket.connect" else arguments[0] if arguments else ""
            os.write(_file, f"{event}\t{told!r}\n".encode("utf-8", "backslashreplace"))

    sys.addaudithook(_heard)
