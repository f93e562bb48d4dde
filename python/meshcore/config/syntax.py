"""What is wrong with a text that is not YAML, said of the text and not of YAML's grammar.

libyaml tells where it stopped and what it looked for. What was meant is seen in the line: nearly
always a value that needs quotes, a tab, or an indentation that fits nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import yaml

__all__ = ["Mistake", "explain_syntax", "lines_of", "must_be_quoted", "quoted", "value_at"]

# A line that is longer was not written by hand; it is not looked at as a whole.
_MAX_LINE: Final = 500

_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_IPV6: Final = re.compile(r"\[[0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*\](?::\d+)?")
_KEY: Final = re.compile(r"""\s*(?:- +)*(?:"[^"]*"|'[^']*'|[^\s:"'{\[][^:]*):(?=\s|$)""")
_KEY_WITHOUT_SPACE: Final = re.compile(r"\s*(?:- +)*([A-Za-z_][\w-]*)\s*[:=]\s*(\S.*)$")
# A wildcard where a key stands, which YAML takes for an alias.
_STAR_KEY: Final = re.compile(r"(\*[\w.-]*):(?=\s|$)")
# Where a value begins: behind a colon, a dash, a comma or an opening bracket.
_BEGINNING: Final = re.compile(r"""(?:^\s*|:\s+|-\s+|[,\[{]\s*)(?=[^\s])""")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where, both counted from 1."""

    line: int
    column: int
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where libyaml stopped, with the line there, and where that began which it was reading."""

    lines: list[str]
    line: int
    column: int
    began_line: int
    began_column: int

    @property
    def text(self) -> str:
        return self.of(self.line)

    @property
    def char(self) -> str:
        return self.text[self.column : self.column + 1]

    def of(self, line: int) -> str:
        return self.lines[line][:_MAX_LINE] if 0 <= line < len(self.lines) else ""

    def here(self, message: str, hint: str | None = None) -> Mistake:
        return Mistake(self.line + 1, self.column + 1, message, hint)

    def at(self, line: int, column: int, message: str, hint: str | None = None) -> Mistake:
        return Mistake(line + 1, column + 1, message, hint)

    def began(self, message: str, hint: str | None = None) -> Mistake:
        return self.at(self.began_line, self.began_column, message, hint)

    def line_before(self) -> int:
        """The last one before that has something on it; -1 for none."""
        for number in range(min(self.line, len(self.lines)) - 1, -1, -1):
            text = self.lines[number].strip()
            if text and not text.startswith("#"):
                return number
        return -1


def explain_syntax(text: str, error: yaml.MarkedYAMLError) -> Mistake:
    """The mistake behind an error of the parser. O(text)."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Mistake(1, 1, f"not YAML: {error.problem or error.context}")
    began = error.context_mark or mark
    spot = _Spot(lines_of(text), mark.line, mark.column, began.line, began.column)
    problem = error.problem or ""
    for words, explain in _EXPLAINED:
        found = explain(spot) if words in problem else None
        if found is not None:
            return found
    return spot.here(f"not YAML: {error.problem or error.context}")


def lines_of(text: str) -> list[str]:
    """A text's lines as libyaml counts them."""
    return _BREAK.split(text)


def quoted(text: str) -> str:
    """A text as it is written in quotes."""
    if '"' in text or "\\" in text:
        return "'{}'".format(text.replace("'", "''"))
    return f'"{text}"'


def is_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address in brackets, with or without a port."""
    return _IPV6.fullmatch(text) is not None


def value_at(line: str, column: int) -> str:
    """The value that begins at a column (from 0) of a line, as it was meant: to the
    end of the line, or inside of brackets to the next comma or closing one."""
    rest = line[column:_MAX_LINE]
    address = _IPV6.match(rest)
    if address:
        return address[0]
    before = line[:column]
    opened = sum(map(before.count, "[{")) - sum(map(before.count, "]}"))
    if rest.startswith("{{"):
        end = rest.find("}}") + 2
        return rest[:end] if end > 1 else rest
    rest = re.split(r"\s#", rest, maxsplit=1)[0]
    if opened > 0:
        rest = re.split(r",\s|,$|[\]}]", rest, maxsplit=1)[0]
    return rest.strip()


def must_be_quoted(lines: list[str], line: int, column: int) -> Mistake:
    """The value at a place (from 0) begins with a character that means something to YAML."""
    text = lines[line][:_MAX_LINE] if line < len(lines) else ""
    if (key := _STAR_KEY.match(text, column)) is not None:
        message = f"a key that begins with {key[1][:1]} must be in quotes"
        return Mistake(line + 1, column + 1, message, f"write {quoted(key[1])}:")
    value = value_at(text, column)
    what = "an IPv6 address" if is_ipv6(value) else f"a value that begins with {value[:1]}"
    return Mistake(line + 1, column + 1, f"{what} must be in quotes", f"write {quoted(value)}")


def _cannot_begin(spot: _Spot) -> Mistake | None:
    if spot.char == "\t":
        return spot.here("a tab: lines are indented with spaces", "write spaces in its place")
    if spot.char and not spot.char.isspace():
        return must_be_quoted(spot.lines, spot.line, spot.column)
    return None


def _mark(spot: _Spot) -> Mistake | None:
    """An alias, anchor or block scalar that is none."""
    return must_be_quoted(spot.lines, spot.began_line, spot.began_column)


def _node(spot: _Spot) -> Mistake | None:
    for address in _IPV6.finditer(spot.text):
        if address.start() <= spot.column <= address.end():
            return must_be_quoted(spot.lines, spot.line, address.start())
    if spot.char and spot.char in ",]}":
        return must_be_quoted(spot.lines, spot.line, spot.column)
    return None


def _mapping_in_value(spot: _Spot) -> Mistake | None:
    """A colon where no key can be."""
    key = _KEY.match(spot.text)
    if key and key.end() <= spot.column:
        start = key.end() + len(spot.text[key.end() :]) - len(spot.text[key.end() :].lstrip())
        return _with_colon(spot, start)
    before = spot.line_before()
    if before < 0:
        return None
    text = spot.of(before)
    pair = _KEY_WITHOUT_SPACE.match(text)
    indent = len(text) - len(text.lstrip())
    if not _KEY.match(text):
        meant = f"write {pair[1]}: {pair[2]}" if pair else f"write {text.strip()}:"
        message = "a key is followed by a colon and a space"
        return spot.at(before, indent, message, meant)
    own = len(spot.text) - len(spot.text.lstrip())
    if own > indent:
        message = f"indented deeper than line {before + 1}, which has a value already"
        return spot.at(spot.line, own, message, "keys that belong together begin at one column")
    return None


def _with_colon(spot: _Spot, start: int) -> Mistake:
    value = value_at(spot.text, start)
    message = "a value with a colon and a space in it must be in quotes"
    return spot.at(spot.line, start, message, f"write {quoted(value)}")


def _no_colon(spot: _Spot) -> Mistake | None:
    text = spot.of(spot.began_line)[spot.began_column :].strip()
    pair = _KEY_WITHOUT_SPACE.match(text)
    if text.startswith("-"):
        return spot.began("a list item is a dash and a space", f"write - {text.lstrip('-')}")
    if pair:
        return spot.began("a key is followed by a colon and a space", f"write {pair[1]}: {pair[2]}")
    return spot.began("a key is followed by a colon", f"write {text}:")


def _no_key(spot: _Spot) -> Mistake | None:
    before = spot.text[: spot.column]
    if not before.strip():
        if re.match(r"-(\s|$)", spot.text[spot.column :]):
            message = "a list item among keys"
            return spot.here(message, "indent it below the key whose value the list is")
        first = spot.began_column + 1
        message = "indented as nothing above it is"
        return spot.here(message, f"what it belongs to begins at column {first}")
    address = _IPV6.search(spot.text)
    if address and address.start() < spot.column <= address.end():
        return must_be_quoted(spot.lines, spot.line, address.start())
    return _behind_value(spot)


def _behind_value(spot: _Spot) -> Mistake | None:
    """More on a line whose value is over."""
    if spot.char and spot.char in "]}":
        return spot.here(f"a {spot.char} that closes nothing", "take it out")
    if spot.char == ",":
        return spot.here("a comma behind the end of a value", "take it out")
    before = spot.text[: spot.column]
    starts = [found.end() for found in _BEGINNING.finditer(before)]
    start = next((at for at in starts if spot.text[at : at + 1] in ("'", '"', "&", "[", "{")), None)
    if start is None:
        return None
    if spot.text[start] not in "'\"":
        return must_be_quoted(spot.lines, spot.line, start)
    mark, value = spot.text[start], value_at(spot.text, start)
    # The closing quote was the text's own, as in 'it's here'; or more stands behind it.
    inner = value[1:-1] if value.endswith(mark) and len(value) > 1 else value
    message = "text behind a closing quote"
    return spot.here(message, f"for the whole as one text write {quoted(inner)}")


def _unclosed_quote(spot: _Spot) -> Mistake | None:
    mark = spot.of(spot.began_line)[spot.began_column : spot.began_column + 1]
    return spot.began(f"the {mark} that begins here is never closed", f"put a {mark} at its end")


def _escape(spot: _Spot) -> Mistake | None:
    text = spot.of(spot.began_line)[spot.began_column :]
    inner = re.match(r'"((?:[^"\\]|\\.)*)"', text)
    escape = spot.of(spot.line)[spot.column : spot.column + 2]
    hint = "use single quotes, in which a backslash is one"
    if inner:
        hint = f"use single quotes: {quoted(inner[1])}"
    return spot.here(f"{escape} means nothing inside of double quotes", hint)


def _unclosed_bracket(spot: _Spot) -> Mistake | None:
    opening = spot.of(spot.began_line)[spot.began_column : spot.began_column + 1]
    closing = {"[": "]", "{": "}"}.get(opening)
    if closing is None:
        return None
    if spot.line != spot.began_line:
        message = f"the {opening} that begins here is not closed"
        place = f"line {spot.line + 1}, column {spot.column + 1}"
        return spot.began(message, f"a comma or {closing} is missing before {place}")
    starts = [at.end() for at in _BEGINNING.finditer(spot.text[: spot.column])]
    if spot.char == ":" and starts:
        words = spot.text[starts[-1] : spot.column].split()
        if len(words) == 1:
            return _with_colon(spot, starts[-1])
        hint = f"write {words[0]}, {words[-1]}: or put the whole value in quotes"
        return spot.at(spot.line, starts[-1], f"a comma is missing before {words[-1]}:", hint)
    where = f"the {opening} is at column {spot.began_column + 1}"
    return spot.here(f"a comma or {closing} is missing here", where)


def _list_behind_key(spot: _Spot) -> Mistake | None:
    item = spot.text[spot.column + 1 :].strip()
    hint = f"write [{item}], or - {item} on the next line"
    return spot.here("a list cannot begin on the line of its key", hint)


def _not_indented(spot: _Spot) -> Mistake | None:
    if spot.text[: spot.column].strip():
        return _behind_value(spot)
    if spot.char == "-":
        return None
    message = "indented as nothing above it is"
    hint = f"items of the list begin at column {spot.began_column + 1}, their keys behind the dash"
    return spot.here(message, hint)


def _behind_end(spot: _Spot) -> Mistake | None:
    return spot.here("more text behind the end of the document", "a file is keys: `version: 1`, …")


def _directive(spot: _Spot) -> Mistake | None:
    return spot.began("a line cannot begin with %", "put a text in quotes")


_EXPLAINED: Final[tuple[tuple[str, Callable[[_Spot], Mistake | None]], ...]] = (
    ("cannot start any token", _cannot_begin),
    ("alphabetic or numeric character", _mark),
    ("comment or line break", _mark),
    ("mapping keys are not allowed", _cannot_begin),
    ("expected node content", _node),
    ("mapping values are not allowed", _mapping_in_value),
    ("could not find expected ':'", _no_colon),
    ("did not find expected key", _no_key),
    ("did not find expected '-' indicator", _not_indented),
    ("unexpected end of stream", _unclosed_quote),
    ("unknown escape character", _escape),
    ("expected ',' or", _unclosed_bracket),
    ("block sequence entries are not allowed", _list_behind_key),
    ("expected <document start>", _behind_end),
    ("unknown directive", _directive),
)
"""What libyaml says, as far as it tells cases apart, and who knows what it means."""
