"""JSON as TensorFlow Serving reads it: NaN and infinities, bytes after the value, its error texts and offsets.

Python's own parser does the work where it agrees. What it refuses, and what it would read otherwise (escapes that do
not pair, numbers beyond float64), goes through a parser written after the observable rules of RapidJSON, which names
the error and its offset in bytes.
"""

import json
import re
from typing import Any

from synthmed.errors import present
from synthmed.serving.status import invalid

MAX_DEPTH = 300
_SPACE = re.compile(rb"[ \t\n\r]*")
_READ_OTHERWISE = re.compile(rb"\\u|[eE]\+?\d{3}|\d{19}|^\xef\xbb\xbf")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"0|[1-9]\d*")
_DIGITS = re.compile(rb"\d+")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_TOKENS = ((b"null", None), (b"true", True), (b"false", False))
_ESCAPES = {34: '"', 92: "\\", 47: "/", 98: "\b", 102: "\f", 110: "\n", 114: "\r", 116: "\t"}


def parse(body: bytes) -> Any:
    """Return the first JSON value of `body`; what follows it is ignored.

    Bytes that are not UTF-8 survive as surrogate escapes, so that they can be written back as they came. Of two members
    with one name the first counts.

    Raises:
        ServingError: INVALID_ARGUMENT with the parser's message and byte offset.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if _READ_OTHERWISE.search(body) is None:
        try:
            text = body.decode("utf-8", "surrogateescape").lstrip(" \t\n\r")
            return _DECODER.raw_decode(text)[0]
        except (ValueError, RecursionError):
            pass  # The parser below says what is wrong, or reads what Python does not.
    return _Parser(body).document()


def printed(value: Any, indent: int = 0) -> str:
    """Return JSON as error texts show it: objects over several lines, arrays on one."""
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = " " * (indent + 4)
        members = (f"{inner}{printed(name)}: {printed(item, indent + 4)}" for name, item in value.items())
        return "{\n" + ",\n".join(members) + "\n" + " " * indent + "}"
    if isinstance(value, list):
        return "[" + ", ".join(printed(item, indent) for item in value) + "]"
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        # RapidJSON writes exponents without a plus sign or leading zeros.
        return re.sub(r"e([+-]?)0*(\d)", lambda match: f"e{match[1].strip('+')}{match[2]}", repr(value))
    return json.dumps(value, ensure_ascii=False)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins)


class _Parser:
    def __init__(self, body: bytes):
        self.body = body
        self.at = 3 if body.startswith(b"\xef\xbb\xbf") else 0
        self.depth = 0

    def document(self) -> Any:
        self._skip()
        if self.at >= len(self.body):
            raise self._error("The document is empty.")
        return self._value()

    def _value(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error("Terminate parsing due to Handler error.")
        first = self.body[self.at : self.at + 1]
        if first == b"{":
            value: Any = self._object()
        elif first == b"[":
            value = self._array()
        elif first == b'"':
            value = self._string()
        else:
            value = self._token()
        self.depth -= 1
        return value

    def _object(self) -> dict[str, Any]:
        self.at += 1
        members: dict[str, Any] = {}
        self._skip()
        if self._take(b"}"):
            return members
        while True:
            if self.body[self.at : self.at + 1] != b'"':
                raise self._error("Missing a name for object member.")
            name = self._string()
            self._skip()
            if not self._take(b":"):
                raise self._error("Missing a colon after a name of object member.")
            self._skip()
            members.setdefault(name, self._value())
            self._skip()
            if self._take(b"}"):
                return members
            if not self._take(b","):
                raise self._error("Missing a comma or } after an object member.")
            self._skip()

    def _array(self) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        self._skip()
        if self._take(b"]"):
            return items
        while True:
            items.append(self._value())
            self._skip()
            if self._take(b"]"):
                return items
            if not self._take(b","):
                raise self._error("Missing a comma or ] after an array element.")
            self._skip()

    def _string(self) -> str:
        start = self.at
        self.at += 1
        pieces: list[str] = []
        while True:
            plain = present(_PLAIN.match(self.body, self.at), "the pattern matches nothing, too")
            pieces.append(plain[0].decode("utf-8", "surrogateescape"))
            self.at = plain.end()
            byte = self.body[self.at : self.at + 1]
            if byte == b'"':
                self.at += 1
                return "".join(pieces)
            if byte == b"\\":
                pieces.append(self._escape())
            elif byte in (b"", b"\0"):
                raise self._error("Missing a closing quotation mark in string.", start)
            else:
                raise self._error("Invalid encoding in string.")

    def _escape(self) -> str:
        start = self.at
        letter = self.body[self.at + 1 : self.at + 2]
        if letter and letter[0] in _ESCAPES:
            self.at += 2
            return _ESCAPES[letter[0]]
        if letter != b"u":
            raise self._error("Invalid escape character in string.", start)
        self.at += 2
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or self.body[self.at : self.at + 2] != b"\\u":
                raise self._error("The surrogate pair in string is invalid.", start)
            self.at += 2
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code)

    def _hex(self, start: int) -> int:
        digits = _HEX.match(self.body, self.at)
        if digits is None:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        self.at = digits.end()
        return int(digits[0], 16)

    def _token(self) -> Any:
        for text, value in _TOKENS:
            if self.body.startswith(text, self.at):
                self.at += len(text)
                return value
            if self.body[self.at : self.at + 1] == text[:1]:
                raise self._error("Invalid value.", self.at + 1)
        return self._number()

    def _number(self) -> int | float:
        start = self.at
        negative = self._take(b"-")
        for name, value in ((b"NaN", float("nan")), (b"Infinity", float("inf")), (b"Inf", float("inf"))):
            if self.body.startswith(name, self.at):
                self.at += len(name)
                return -value if negative else value
        if not self._digits(_INTEGER):
            raise self._error("Invalid value.")
        whole = True
        if self._take(b"."):
            whole = False
            if not self._digits(_DIGITS):
                raise self._error("Miss fraction part in number.")
        if self.body[self.at : self.at + 1] in (b"e", b"E"):
            whole = False
            self.at += 1
            if not self._take(b"+"):
                self._take(b"-")
            if not self._digits(_DIGITS):
                raise self._error("Miss exponent in number.")
        text = self.body[start : self.at].decode("ascii")
        # Beyond 64 bits RapidJSON goes on with a double.
        if whole and len(text) <= 20 and -(2**63) <= int(text) < 2**64:
            return int(text)
        number = float(text)
        if abs(number) == float("inf"):
            raise self._error("Number too big to be stored in double.", start)
        return number

    def _digits(self, pattern: re.Pattern[bytes]) -> bool:
        match = pattern.match(self.body, self.at)
        if match is not None:
            self.at = match.end()
        return match is not None

    def _skip(self) -> None:
        self.at = present(_SPACE.match(self.body, self.at), "the pattern matches nothing, too").end()

    def _take(self, byte: bytes) -> bool:
        found = self.body.startswith(byte, self.at)
        self.at += found
        return found

    def _error(self, message: str, offset: int | None = None):
        return invalid(f"JSON Parse error: {message} at offset: {self.at if offset is None else offset}")
