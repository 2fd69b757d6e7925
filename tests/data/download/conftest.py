"""A web server on loopback that behaves as badly as a test asks."""

import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Site:
    """One file behind a server.

    Attributes:
        content: Bytes of the file.
        etag: Its version; None: the server does not say.
        ranges: Whether parts of it can be asked for.
        cuts: After how many bytes each of the next replies breaks off.
        status: Answer this instead, where it is given.
        asked: `Range` of each request so far.
    """

    def __init__(self):
        self.content, self.etag, self.ranges, self.cuts, self.status = b"", '"one"', True, [], None
        self.asked = []

    @property
    def md5(self):
        return hashlib.md5(self.content).hexdigest()


@pytest.fixture
def site():
    """Serve `site.content` at `site.url`."""
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status:
                self.send_error(state.status)
                return
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
            partial = state.ranges and wanted and self.headers.get("If-Range") == state.etag
            if partial and first >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.end_headers()
                return
            body = state.content[first:] if partial else state.content
            self.send_response(206 if partial else 200)
            if partial:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/Task.tar"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def pack():
    """Return a function from entries, (name, bytes) or a TarInfo, to the bytes of a tar archive."""

    def make(*entries, mode="w"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for entry in entries:
                if isinstance(entry, tarfile.TarInfo):
                    archive.addfile(entry)
                    continue
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
        return buffer.getvalue()

    return make
