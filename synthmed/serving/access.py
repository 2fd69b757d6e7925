"""Who may reach a server: the address it listens on, a token that requests must bear, and TLS."""

import hmac
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from synthmed.errors import UserError

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "SYNTHMED_TOKEN"
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Access:
    """How a server can be reached.

    Raises:
        UserError: If the host is unknown, a file of TLS does not fit, or the server would be open to a network.
    """

    host: str = LOOPBACK
    token: str | None = field(default=None, repr=False)
    """What requests must bear (`Authorization: Bearer TOKEN`); None asks for nothing."""
    certificate: Path | None = None
    """PEM file of the certificate chain; with it and the key both protocols speak TLS."""
    key: Path | None = None
    """PEM file of the private key, without a passphrase."""
    address: str = field(init=False)
    """The IP address of the host."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _address(self.host))
        if (self.certificate is None) != (self.key is None):
            raise UserError("TLS needs a certificate and its key: give --tls-cert and --tls-key")
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)
        if not self.is_local and self.token is None and self.certificate is None:
            raise UserError(
                f"{self.host} can be reached from other machines: give --token-file, or --tls-cert and --tls-key"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return ipaddress.ip_address(self.address.partition("%")[0]).is_loopback

    @property
    def tls(self) -> bool:
        """Whether the server speaks TLS."""
        return self.certificate is not None

    def url(self, port: int, *, scheme: str = "http") -> str:
        """Return the address of a port, with `https` or `grpcs` where TLS is spoken."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}{'s' if self.tls else ''}://{host}:{port}"

    def allows(self, authorization: str) -> bool:
        """Return whether a request with this `Authorization` header, "" if none, may be answered."""
        if self.token is None:
            return True
        scheme, _, sent = authorization.partition(" ")
        # The comparison takes the same time for every wrong token.
        return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), self.token.encode())


def read_token(path: Path | None, *, shortest: int = SHORTEST_TOKEN) -> str | None:
    """Return the token from a file, else from the environment variable SYNTHMED_TOKEN, else None.

    Args:
        path: The file; None for the environment.
        shortest: How many characters it must have: a server of ours asks for enough, a client takes what others gave.

    Raises:
        UserError: If the file cannot be read, or the token is too short or has spaces.
    """
    if path is None:
        text, source = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if text is None or not text.strip():
            return None
    else:
        source = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({error}): check --token-file") from None
    token = text.strip()
    if len(token) < shortest or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"the token in {source} is not {shortest} or more letters and digits in one word: "
            "make one with: openssl rand -hex 32"
        )
    return token


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{host!r} is no address of this machine ({reason}): check --host") from None


def _check_pair(certificate: Path, key: Path) -> None:
    try:
        # A passphrase would be asked for on the terminal; a server has nobody to answer.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{certificate} and {key} are no certificate with its key ({reason}): mend them") from None
