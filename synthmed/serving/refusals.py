"""The ways in which a server can be wrong: recognised by the clients of both protocols, told in one line each."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What is wrong with a server or with what it was asked."""

    BUSY = "busy"
    """It has too much to do: worth asking again."""
    LOST = "lost"
    """The connection ended within a question: worth asking again where there was an answer before."""
    ABSENT = "absent"
    MODEL = "model"
    SIGNATURE = "signature"
    REQUEST = "request"
    TOO_LARGE = "too large"
    TOKEN = "token"  # noqa: S105
    TLS = "tls"
    FOREIGN = "foreign"
    SLOW = "slow"
    BROKEN = "broken"


_MENDS = {
    Kind.BUSY: "{url} stays busy ({reason}): try later, or ask for fewer items at once (--batch)",
    Kind.LOST: "{url} ended the connection ({reason}): is the server running, and does --url rightly begin with "
    "{own} and not {other}?",
    Kind.ABSENT: "no answer from {url} ({reason}): is the server running? (synthmed serve)",
    Kind.MODEL: "{url} has no {model} to ask ({reason}): check --model",
    Kind.SIGNATURE: "{model} at {url} lacks a signature ({reason}): is it a generator of synthmed? Check --model",
    Kind.REQUEST: "{url} refuses what {model} was asked ({reason}): is it a generator of synthmed? Check --model",
    Kind.TOO_LARGE: "a message to or from {url} is larger than is allowed ({reason}): ask for fewer items at once "
    "(--batch), or raise the limit of the server or of what is in front of it",
    Kind.TOKEN: "{url} refuses access ({reason}): give its token with --token-file or SYNTHMED_TOKEN",
    Kind.TLS: "no secure connection to {url} ({reason}): check whether --url should begin with {other}, and --ca-file "
    "for a certificate of your own",
    Kind.FOREIGN: "{url} answers, but not as TensorFlow Serving does ({reason}): check --url",
    Kind.SLOW: "{url} did not answer in time ({reason}): ask for fewer items at once (--batch) or wait longer "
    "(--timeout)",
    Kind.BROKEN: "{url} fails to answer for {model} ({reason}): look into its log",
}
_OTHER_SCHEMES = {"http": "https://", "https": "http://", "grpc": "grpcs://", "grpcs": "grpc://"}
LONGEST_REASON = 300


@dataclass
class Refusal(Exception):
    """A question without an answer.

    Attributes:
        kind: What is wrong.
        reason: What the server or the network said.
        pause: Seconds after which the server wants to be asked again; 0 where it did not say.
    """

    kind: Kind
    reason: str
    pause: float = 0.0

    def line(self, *, url: str, model: str) -> str:
        """Return one line for the user: what is wrong, where, and the mend."""
        lines = self.reason.strip().splitlines()
        reason = lines[0].strip().rstrip(".")[:LONGEST_REASON] if lines else "no reason given"
        scheme = url.partition("://")[0]
        other = _OTHER_SCHEMES.get(scheme, "another scheme")
        return _MENDS[self.kind].format(url=url, model=model, reason=reason, own=f"{scheme}://", other=other)
