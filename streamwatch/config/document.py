"""YAML text → plain values, with the line of every key, so that each later complaint can name one.

YAML 1.2's few plain types only: `no`, `on` and `12:30` stay text, as their writers meant. Tags are refused, aliases and
`<<` merges work up to a size. No parser message is passed on that could quote the text: it may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from streamwatch.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("cameras", 1, "zones", 0)`."""

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MAX_DEPTH = 32

_MAP, _SEQ, _STR = (f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str"))
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None}
_CONSTANTS |= {spelt: value for word, value in (("null", None), ("true", True), ("false", False))
               for spelt in (word, word.capitalize(), word.upper())}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]+")
_PREFIXED_INT = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def show_path(path: KeyPath) -> str:
    """`cameras[1].zones[0]`; the whole document is `the file`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "the file"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with the file."""

    message: str
    path: KeyPath | None = None
    """None where the text is no YAML at all."""

    line: int | None = None
    """From 1; None where no line is to blame."""

    def show(self, file: str) -> str:
        """`site.yaml:12: cameras[0].every: …`, a form that editors and terminals can jump to."""
        place = file if self.line is None else f"{file}:{self.line}"
        return f"{place}: {self.message}" if self.path is None else f"{place}: {show_path(self.path)}: {self.message}"


def config_error(file: str, problems: list[Problem]) -> ConfigError:
    """All problems in one error, in the order of their lines."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    return ConfigError("\n".join(problem.show(file) for problem in ordered))


class _Syntax(yaml.SafeLoader):
    """Parses and composes nodes; gives every plain scalar as text, for `_scalar` to read."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


@dataclass
class Document:
    """The values of one YAML file and where they stand."""

    value: object = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """The line of each key or list item, from 1."""

    problems: list[Problem] = field(default_factory=list)
    """Duplicate keys, tags, keys that are no text: all of them, so that one run shows them together."""

    def line(self, path: KeyPath) -> int | None:
        """The line of a path, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def parse_document(text: str, *, file: str) -> Document:
    """Read one YAML document.

    Raises:
        ConfigError: The text is no YAML, holds more than one document, or expands to too much.
    """
    loader = _Syntax("")  # the text is given below, where its errors are caught
    try:
        loader = _Syntax(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise config_error(file, [_syntax_problem(error, text)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character U+{ord(text[error.position]):04X} is not allowed in YAML: remove it"
        raise config_error(file, [Problem(message=message, line=line)]) from None
    except RecursionError:
        message = f"nested far too deeply; expected at most {MAX_DEPTH} levels"
        raise config_error(file, [Problem(message=message)]) from None
    finally:
        loader.dispose()
    document = Document()
    if node is not None:
        document.value = _Reader(document, file).read(node, ())
    return document


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    if mark is None:  # PyYAML always sets one; its types do not say so
        return Problem(message="this is not YAML")
    lines = text.split("\n")
    source = lines[mark.line] if mark.line < len(lines) else ""
    indentation = source[: len(source) - len(source.lstrip())]
    place = f"column {mark.column + 1}"
    if "\t" in indentation:
        place = f"column {indentation.index(chr(9)) + 1}"
        what = "YAML does not allow tabs for indentation: use spaces"
    elif isinstance(error, yaml.composer.ComposerError) and "alias" in (error.problem or ""):
        what = "an unquoted * starts an alias, and none of that name is defined: put the value in quotes"
    elif isinstance(error, yaml.composer.ComposerError):
        what = "a second document starts here; expected one document a file"
    else:
        # Names in quotes can be parts of a password; <block end> and single signs cannot.
        what = re.sub(r"'(?!<)[^']{2,}'", "…", error.problem or "this is not YAML")
        what += "; values with signs such as @ % & * ! # : { [ are best put in 'quotes'"
    return Problem(message=f"{place}: {what}", line=mark.line + 1)


class _Reader:
    """Turns nodes into values; counts what aliases expand to."""

    def __init__(self, document: Document, file: str) -> None:
        self._document = document
        self._file = file
        self._values = 0

    def read(self, node: yaml.Node, path: KeyPath) -> object:
        self._values += 1
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        if self._values > MAX_VALUES:
            message = (
                f"expands to more than {MAX_VALUES:,} values; expected a configuration written out, or with few aliases"
            )
            raise config_error(self._file, [Problem(message=message)])
        if len(path) > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep, or an alias that holds itself"
            raise config_error(self._file, [Problem(message=message, line=line)])
        if node.tag not in (_MAP, _SEQ, _STR, "!"):
            self._document.problems.append(
                Problem(
                    path=path, line=line, message="has a tag (an unquoted ! before the value): put the value in quotes"
                )
            )
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        first_lines: dict[str, int] = {}
        pairs: list[tuple[yaml.Node, yaml.Node]] = node.value
        for key, value in pairs:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._document.problems.append(
                    Problem(path=path, line=line, message="a key is a list or mapping; expected a word")
                )
                continue
            name = str(key.value)
            if name == "<<" and key.style is None:
                continue
            if name in first_lines:
                message = f"is written twice, first in line {first_lines[name]}: keep one of them"
                self._document.problems.append(Problem(path=(*path, name), line=line, message=message))
                continue
            first_lines[name] = line
            self._document.lines[(*path, name)] = line
            values[name] = self.read(value, (*path, name))
        for merged in self._merges(pairs, path):
            for key, value in merged.value:
                # A merged mapping's own `<<` is not followed: one level is what shared settings need.
                if isinstance(key, yaml.ScalarNode) and key.value not in values and key.value != "<<":
                    name = str(key.value)
                    self._document.lines[(*path, name)] = key.start_mark.line + 1
                    values[name] = self.read(value, (*path, name))
        return values

    def _merges(self, pairs: list[tuple[yaml.Node, yaml.Node]], path: KeyPath) -> Iterator[yaml.MappingNode]:
        for key, value in pairs:
            if isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(merged, yaml.MappingNode):
                        yield merged
                    else:
                        message = "<< takes an alias of a mapping, or a list of them"
                        self._document.problems.append(
                            Problem(path=path, line=key.start_mark.line + 1, message=message)
                        )


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    text = str(node.value)
    if getattr(node, "style", None) is not None:  # quoted or a block: text as it stands
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text)
    if _PREFIXED_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL_FLOAT.fullmatch(text):
        return float((special[1] or "") + (special[2] or special[3]).lower())
    return text
