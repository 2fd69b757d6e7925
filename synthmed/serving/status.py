"""Errors of a request, by the codes that gRPC and TensorFlow share, and what HTTP makes of them."""

from enum import Enum


class Code(Enum):
    """A status code: its number in gRPC, and the HTTP status that TensorFlow Serving answers with."""

    OK = (0, 200)
    CANCELLED = (1, 500)
    UNKNOWN = (2, 500)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    ABORTED = (10, 409)
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    DATA_LOSS = (15, 500)
    UNAUTHENTICATED = (16, 401)

    @property
    def number(self) -> int:
        """The code's number in gRPC and TensorFlow."""
        return self.value[0]

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[1]

    @classmethod
    def of(cls, number: int) -> "Code":
        """Return the code with a number; UNKNOWN for one that is not defined."""
        return next((code for code in cls if code.number == number), cls.UNKNOWN)


class ServingError(Exception):
    """A request that cannot be answered.

    Args:
        code: Why, by kind.
        message: Why, in words; the text that TensorFlow Serving gives where it gives one.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServingError:
    """Return the error of a malformed request."""
    return ServingError(Code.INVALID_ARGUMENT, message)
