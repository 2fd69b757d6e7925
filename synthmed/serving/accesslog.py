"""A line for each request that a server answers: who asked for what, and what became of it."""

import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from synthmed.errors import UserError

LONGEST = 300
"""Characters of a path or method that are written."""


class AccessLog:
    """Writes lines of seven fields with spaces between: time, client, protocol:method, path, status, bytes, seconds.

    Neither what requests and answers carry nor tokens are written; what is not printable ASCII is escaped.

    Args:
        path: The file, to which lines are added; None for the standard error stream.
        notify: Called with one line if the log cannot be written any more.

    Raises:
        UserError: If the file cannot be opened.
    """

    def __init__(self, path: Path | None, *, notify: Callable[[str], None] = lambda line: None):
        self._notify = notify
        self._lock = threading.Lock()
        self._failed = False
        try:
            # Line by line: what follows a request's end can be read at once, and `copytruncate` of logrotate works.
            self._file: TextIO | None = None if path is None else path.open("a", encoding="ascii", buffering=1)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): check --access-log") from None

    def write(
        self, *, protocol: str, client: str, method: str, path: str, status: str, size: int, seconds: float
    ) -> None:
        """Add the line of one request.

        Args:
            protocol: `REST` or `GRPC`.
            client: The address that asked.
            method: The verb of HTTP, or the method of gRPC.
            path: The path without its query, or the model's name.
            status: The HTTP status, or the name of the code.
            size: Bytes of the answer's body.
            seconds: How long it took.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = time, client or "-", f"{protocol}:{method}", path or "-", status
        line = " ".join([*map(visible, fields), str(size), f"{seconds:.3f}"])
        with self._lock:
            try:
                print(line, file=self._file or sys.stderr)
            except (OSError, ValueError) as error:
                if not self._failed:
                    self._failed = True
                    self._notify(f"the access log cannot be written ({error}): lines are lost until it can")
            else:
                self._failed = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def visible(text: str) -> str:
    """Return a text as printable ASCII without spaces, escaped where it has others, and not too long."""
    return text[:LONGEST].encode("unicode_escape").decode("ascii").replace(" ", "\\x20")


def peer_address(peer: str) -> str:
    """Return the address in what gRPC calls a peer: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    scheme, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D") if scheme in ("ipv4", "ipv6") else peer
