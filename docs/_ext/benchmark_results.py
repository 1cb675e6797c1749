"""The directive ``benchmark-results``: tables of all ``benchmarks/results/*.json``.

A file that does not have the agreed form stops the build with its name: a benchmark that changed
its output must not vanish from the page.
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.errors import ExtensionError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class BenchmarkResults(Directive):
    """Render every result file as a section: how it was run, its targets, its rows."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        paths = sorted(RESULTS.glob("*.json"))
        for path in paths:
            environment.note_dependency(str(path))
        if not paths:
            text = "No results are stored in this checkout yet: make bench computes them."
            return [nodes.paragraph(text=text)]
        return [_section(path) for path in paths]


def _section(path: Path) -> nodes.section:
    try:
        result = json.loads(path.read_text())
        section = nodes.section(ids=[nodes.make_id(path.stem)])
        section += nodes.title(text=path.stem.replace("_", " "))
        section += _run_of(result)
        if result["targets"]:
            columns = ["target", "goal", "measured", "holds"]
            rows = [
                [t["name"], t["goal"], t["value"], "yes" if t["holds"] else "NO"]
                for t in result["targets"]
            ]
            section += _table(columns, rows)
        if result["rows"]:
            # The union of the columns, in order of appearance: rows may lack some.
            columns = list(dict.fromkeys(name for row in result["rows"] for name in row))
            section += _table(columns, [[row.get(c) for c in columns] for row in result["rows"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExtensionError(f"{path} is not a benchmark result: {error!r}") from error
    return section


def _run_of(result: dict) -> nodes.paragraph:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    machine = result["machine"]
    if isinstance(machine, dict):
        machine = ", ".join(f"{name} {value}" for name, value in machine.items())
    paragraph = nodes.paragraph()
    paragraph += nodes.literal(text=result["command"])
    paragraph += nodes.Text(f" on {result['date']}; {machine}; {versions}.")
    return paragraph


def _table(columns: list[str], rows: list[list]) -> nodes.table:
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]
    head = nodes.thead()
    head += _row([name.replace("_", " ") for name in columns])
    body = nodes.tbody()
    body += [_row([_in_words(value) for value in row]) for row in rows]
    group += [head, body]
    table = nodes.table()
    table += group
    return table


def _row(words: list[str]) -> nodes.row:
    row = nodes.row()
    for word in words:
        entry = nodes.entry()
        entry += nodes.paragraph(text=word)
        row += entry
    return row


def _in_words(value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(_in_words(v) for v in value)
    return str(value)


def setup(app):
    app.add_directive("benchmark-results", BenchmarkResults)
    return {"version": "1", "parallel_read_safe": True}
