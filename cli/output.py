"""Where output goes. Standard output: what was asked for, or with `--json` one document and nothing else.
Standard error: `twinlock: what happened`, then `hint: the fix`; lower case, no full stop.

Colours and boxes go to a terminal alone; elsewhere the same tables are plain text in aligned columns.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

Document = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Failure:
    """Say what went wrong, how to go on, and with which exit code."""

    line: str
    hint: str = ""
    code: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """Hold rows under headings; without headings, names and values."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    empty: str = "none"
    title: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Hold what a command has to say: the document for programs, the view for people, and a failure of a part of it."""

    document: Document
    view: Sequence[str | Table] = ()
    failure: Failure | None = None
    warnings: Sequence[str] = field(default=())


def listing(documents: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> Result:
    """Return a list, shown as a table of some of its fields."""
    return Result(documents, [Table(columns, [[item[name] for name in columns] for item in documents], empty)])


def fields(document: Mapping[str, Any]) -> Table:
    """Return a document as a table of names and values."""
    return Table((), [(name.replace("_", " "), value) for name, value in document.items()])


def emit(result: Result, as_json: bool) -> None:
    """Write a result to standard output, and its warnings to standard error."""
    if as_json:
        sys.stdout.write(json.dumps(result.document, indent=2, ensure_ascii=False) + "\n")
    else:
        for part in result.view:
            _show(part)
    for warning in result.warnings:
        sys.stderr.write(f"warning: {one_line(warning)}\n")
    sys.stdout.flush()


def complain(failure: Failure) -> None:
    """Write a failure to standard error, one line for what and one for the hint."""
    sys.stderr.write(f"twinlock: {one_line(failure.line)}\n")
    if failure.hint:
        sys.stderr.write(f"hint: {one_line(failure.hint)}\n")


def _show(part: str | Table) -> None:
    if isinstance(part, str):
        sys.stdout.write(part + "\n")
    elif sys.stdout.isatty():
        _show_boxed(part)
    else:
        sys.stdout.write(plain(part))


def plain(table: Table) -> str:
    """Return a table as text in aligned columns."""
    rows = [[_cell(value) for value in row] for row in table.rows]
    title = f"{table.title}:\n" if table.title else ""
    if not rows:
        return f"{title}{table.empty}\n"
    if table.columns:
        rows.insert(0, [_heading(name) for name in table.columns])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return title + "".join(line + "\n" for line in lines)


def _show_boxed(table: Table) -> None:
    console = Console(file=sys.stdout, highlight=False)
    if not table.rows:
        console.print(f"{table.title + ': ' if table.title else ''}{table.empty}")
        return
    shown = RichTable(title=table.title or None, title_justify="left", show_header=bool(table.columns))
    for column, value in enumerate(table.rows[0]):
        heading = _heading(table.columns[column]) if table.columns else ""
        shown.add_column(heading, justify="right" if _is_number(value) else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(_cell(value)) for value in row))
    console.print(shown)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _heading(name: str) -> str:
    return name.replace("_", " ").upper()


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_cell(item)}" for name, item in value.items()) or "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_cell, value)) or "-"
    return one_line(str(value))


def one_line(text: str) -> str:
    """Return text that can't steer the terminal: names may come from files and from strangers."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
