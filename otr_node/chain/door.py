"""The embedded chain behind a JSON-RPC door: a node of its own, for machines without anvil. Started as
``python -m otr_node.chain.door``.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from otr_core.errors import one_line
from otr_node.chain.embedded import EmbeddedChain, RefusalError

MOST_BYTES = 2**20
"""Of a request; the code of the largest contract is a tenth of that."""
_NO_REQUEST, _NO_JSON = -32600, -32700
_ANSWERED_S, _MOST_NESTED = 30.0, 64


class EmbeddedDoor(ThreadingHTTPServer):
    """The door of a chain, on this machine's loopback.

    Args:
        chain: what is asked. port: 0: a free one.

    Attributes:
        chain: as given. url: of the door.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, chain: EmbeddedChain, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Asked)
        self.chain, self.url = chain, f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that was killed while it asked is no error of the door's."""


class _Asked(BaseHTTPRequestHandler):
    """One connection."""

    server: EmbeddedDoor
    protocol_version = "HTTP/1.1"
    timeout = _ANSWERED_S

    def do_POST(self) -> None:
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > MOST_BYTES:
            self.close_connection = True
            self.send_error(413 if size.isdecimal() else 411)
            return
        said = json.dumps(self._answered(self.rfile.read(int(size)))).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _answered(self, body: bytes) -> dict[str, Any]:
        number: object = None
        try:
            # The chain's machine lets calls nest deeper than the stack holds: no parser may do so.
            if body.count(b"[") + body.count(b"{") > _MOST_NESTED:
                raise RefusalError(_NO_JSON, f"found more than {_MOST_NESTED} brackets, expected a request")
            try:
                asked = json.loads(body)
            except ValueError as error:
                raise RefusalError(_NO_JSON, one_line(error)) from error
            if not isinstance(asked, dict):
                raise RefusalError(_NO_REQUEST, "found no object, expected one request")
            number = asked.get("id") if isinstance(asked.get("id"), str | int) else None
            done = self.server.chain.answer(asked.get("method"), asked.get("params", []))
        except RefusalError as error:
            return {"jsonrpc": "2.0", "id": number, "error": error.error}
        return {"jsonrpc": "2.0", "id": number, "result": done}

    def log_message(self, *about: Any) -> None:
        """Nothing is logged."""


def main() -> None:
    """Entry point: port, and file of the journal ("": kept nowhere)."""
    port, journal = sys.argv[1:]
    EmbeddedDoor(EmbeddedChain(Path(journal) if journal else None), int(port)).serve_forever()


if __name__ == "__main__":
    main()
