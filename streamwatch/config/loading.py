"""From a YAML file to `Config`: `${VAR}`, validation, and one message that lists every problem."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streamwatch.config.document import MAX_BYTES, Document, KeyPath, Problem, config_error, parse_document
from streamwatch.config.sections import Config
from streamwatch.errors import ConfigError
from streamwatch.urls import redact

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_SECRET_KEYS = frozenset({"password", "username"})


def load_config(path: Path, *, environ: Mapping[str, str], folder: Path | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: The YAML file, UTF-8.
        environ: Where `${VAR}` and `${VAR:-default}` are looked up; `$${` stands for `${`.
        folder: Where relative paths start from; None for the file's own folder.

    Raises:
        ConfigError: The file cannot be read or used; the message holds one line for each problem, and no secret.
    """
    file = str(path)
    document = parse_document(_read(path), file=file)
    if document.value is None and not document.problems:
        raise ConfigError(f"{file}: is empty; expected at least `cameras:` with a name and a url")
    problems = list(document.problems)
    values = _interpolate(document.value, (), environ, document, problems)
    try:
        config = Config.model_validate(values, context={"folder": (folder or path.parent).absolute()})
    except ValidationError as error:
        blamed = {problem.path for problem in problems}
        for details in error.errors(include_url=False):
            problem = _problem(details, document)
            # What is wrong already (a variable that is not set, …) needs no second complaint; nor does a list whose
            # items were all refused, which pydantic counts as empty.
            counted_empty = details["type"] == "too_short" and _at(values, details["loc"])
            if problem.path not in blamed and not counted_empty:
                problems.append(problem)
    problems += _twins(document)
    if problems:
        raise config_error(file, problems)
    return config


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a YAML configuration such as configs/site.yaml") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; expected a YAML file, such as {path / 'site.yaml'}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: cannot be read: {reason}; expected a YAML file") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; expected a configuration, not a video")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        raise config_error(str(path), [Problem(message=got, line=line)]) from None


def _interpolate(
    value: object, path: KeyPath, environ: Mapping[str, str], document: Document, problems: list[Problem]
) -> object:
    if isinstance(value, dict):
        return {key: _interpolate(item, (*path, key), environ, document, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, (*path, index), environ, document, problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            message = "has a ${ that is no ${VAR} or ${VAR:-default}; write $${ for the two signs themselves"
        elif default is not None:
            return environ.get(name) or default
        elif name in environ:
            return environ[name]
        else:
            message = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
        problems.append(Problem(path=path, line=document.line(path), message=message))
        return ""

    return _VARIABLE.sub(fill, value)


def _problem(details: ErrorDetails, document: Document) -> Problem:
    path: KeyPath = details["loc"]
    kind, context = details["type"], details.get("ctx", {})
    line = document.line(path)
    if kind == "extra_forbidden":
        known = list(_known_keys(Config, path[:-1]))
        return Problem(path=path, line=line, message="unknown key; " + _nearest(str(path[-1]), known))
    if kind == "missing":
        return Problem(path=path, line=line, message=f"is missing. {_sentence(path)}")
    expected = _expected(kind, context) or details["msg"].removeprefix("Value error, ")
    got = _got(path, document)
    if kind == "literal_error" and isinstance(raw := _at(document.value, path), str):
        options = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        if close := difflib.get_close_matches(raw, options, n=1):
            expected += f"; did you mean {close[0]}?"
    if not expected.startswith("expected"):  # a validator's sentence about the key itself
        return Problem(path=path, line=line, message=expected)
    return Problem(path=path, line=line, message=f"got {got}, {expected}")


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    limits = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    signs = {"gt": "over", "ge": "of at least", "lt": "under", "le": "of at most"}
    if kind in limits:
        return f"expected a number {signs[limits[kind]]} {context[limits[kind]]}"
    if kind == "literal_error":
        return f"expected {str(context['expected']).replace(chr(39), '')}"
    return {
        "string_type": "expected text: put it in quotes",
        "string_too_short": "expected a name",
        "int_type": "expected a whole number",
        "int_parsing": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "float_parsing": "expected a number",
        "finite_number": "expected a finite number",
        "bool_type": "expected true or false",
        "bool_parsing": "expected true or false",
        "tuple_type": "expected a list (lines that start with -)",
        "too_short": "expected at least one",
        "model_type": "expected a mapping (lines of key: value)",
    }.get(kind)


def _got(path: KeyPath, document: Document) -> str:
    """The value as it stands in the file: `${VAR}` and never what the variable holds, and no secrets."""
    value = _at(document.value, path)
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        is_point = len(value) <= 4 and all(isinstance(item, int | float) for item in value)
        return str(value) if value and is_point else "an empty list" if not value else "a list"
    if _SECRET_KEYS.intersection(map(str, path)):
        return "text" if isinstance(value, str) else "a number" if not isinstance(value, bool) else "true or false"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        shown = redact(value)
        return repr(shown if len(shown) <= 80 else shown[:79] + "…")
    return str(value)


def _at(value: object, path: KeyPath) -> object:
    for step in path:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _sections(path: KeyPath) -> type[BaseModel] | None:
    """The section that a path leads to."""
    section: type[BaseModel] | None = Config
    for step in path:
        if isinstance(step, int):
            continue
        if section is None or step not in section.model_fields:
            return None
        section = next(_models_in(section.model_fields[step].annotation), None)
    return section


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _known_keys(root: type[BaseModel], path: KeyPath) -> Iterator[str]:
    section = _sections(path)
    if section is not None:
        yield from section.model_fields


def _sentence(path: KeyPath) -> str:
    section = _sections(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section is not None else None
    return " ".join((field.description or "").split()) if field is not None else ""


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [name for name, section in Config.model_fields.items() for inner in _models_in(section.annotation)
                 if key in inner.model_fields]  # fmt: skip
    if elsewhere:
        return f"it belongs into {elsewhere[0]}; known here: {', '.join(known)}"
    return f"known here: {', '.join(known)}"


def _twins(document: Document) -> Iterator[Problem]:
    """Two cameras of one name; upper and lower case count as one, as they do for folders on many disks."""
    cameras = _at(document.value, ("cameras",))
    first: dict[str, int] = {}
    for index, camera in enumerate(cameras if isinstance(cameras, list) else ()):
        name = _at(camera, ("name",))
        if not isinstance(name, str):
            continue
        earlier = first.setdefault(name.casefold(), index)
        if earlier != index:
            path: KeyPath = ("cameras", index, "name")
            where = f"cameras[{earlier}] in line {document.line(('cameras', earlier, 'name'))}"
            message = f"got {name!r}, which is the name of {where} too; expected names that differ in more than case"
            yield Problem(path=path, line=document.line(path), message=message)
