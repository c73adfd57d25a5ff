"""A web server on this machine that misbehaves on demand: stops half-way, ignores ranges, redirects, lies."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Server:
    """Files by path, and what goes wrong with them; counts what is fetched.

    `stops` has, by path, after how many bytes each of the next answers breaks off; an answer with none left is whole.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    stops: dict[str, list[int]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    heads: bool = True
    no_heads: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)  # the range of each GET


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server while the block lasts."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, *, body: bool) -> None:
            content = state.files.get(self.path)
            start = self.start(content) if body else 0
            self.send_response(self.code(content, start))
            given = state.headers.get(self.path, {})
            for name, value in given.items():
                self.send_header(name, value)
            if self.path in state.redirects:
                self.send_header("Location", state.redirects[self.path])
            if start >= len(content or b"") > 0:
                self.send_header("Content-Range", f"bytes */{len(content or b'')}")
            elif start:
                self.send_header("Content-Range", f"bytes {start}-{len(content or b'') - 1}/{len(content or b'')}")
            if "Content-Length" not in given and "Transfer-Encoding" not in given:
                self.send_header("Content-Length", str(max(0, len(content or b"") - start)))
            self.end_headers()
            if body and content is not None and self.path not in state.codes:
                self.send(content[start:])

        def code(self, content: bytes | None, start: int) -> int:
            if self.path in state.redirects:
                return 302
            if self.path in state.codes:
                return state.codes[self.path]
            return 404 if content is None else 200 if not start else 206 if start < len(content) else 416

        def start(self, content: bytes | None) -> int:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            same = self.headers.get("If-Range") in (None, state.headers.get(self.path, {}).get("ETag"))
            found = re.fullmatch(r"bytes=(\d+)-", asked or "")
            return int(found[1]) if found and state.ranges and same and content else 0

        def send(self, content: bytes) -> None:
            state.fetched.append(self.path)
            stops = state.stops.get(self.path)
            if not stops:
                self.wfile.write(content)
                return
            self.wfile.write(content[: stops.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            if state.heads and self.path not in state.no_heads:
                self.answer(body=False)
            else:
                self.send_error(405)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        running.shutdown()


class FtpServer:
    """The few words of FTP that a download needs, for one file."""

    def __init__(self, content: bytes, *, stops: list[int] | None = None) -> None:
        self.content, self.stops, self.rests = content, stops or [], []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ftp://127.0.0.1:{self.listening.getsockname()[1]}/pub/file.bin"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                with connection, contextlib.suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        rest, data = 0, None
        connection.sendall(b"220 hello\r\n")
        for line in connection.makefile("r"):
            word, _, argument = line.strip().partition(" ")
            if word in ("EPSV", "PASV"):
                data = socket.create_server(("127.0.0.1", 0))
                port = data.getsockname()[1]
                connection.sendall(f"227 on (127,0,0,1,{port >> 8},{port & 255})\r\n".encode())
            elif word == "SIZE":
                connection.sendall(f"213 {len(self.content)}\r\n".encode())
            elif word == "REST":
                rest = int(argument)
                self.rests.append(rest)
                connection.sendall(b"350 from there\r\n")
            elif word == "RETR" and not argument.endswith("file.bin"):
                connection.sendall(b"550 no such file\r\n")
            elif word == "RETR" and data is not None:
                connection.sendall(b"150 here it comes\r\n")
                channel, _ = data.accept()
                count = self.stops.pop(0) if self.stops else len(self.content)
                channel.sendall(self.content[rest : rest + count])
                channel.close()
                data.close()
                rest = 0
            else:
                connection.sendall(b"230 yes\r\n")
