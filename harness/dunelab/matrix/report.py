# SPDX-License-Identifier: MIT
"""The table of a matrix run: terminal, Markdown, HTML, JSON, JUnit."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from rich.table import Table

from dunelab.matrix.apimap import drifts
from dunelab.matrix.model import BuildReport, CellReport, MatrixReport, Verdict
from dunelab.matrix.record import DOCUMENT
from dunelab.results.github import Annotation, split_place
from dunelab.results.report import write_atomically

HEADINGS = ("kernel", "release", "vendor", "cell", "verdict", "passed", "failed", "s", "cause")
HOST = "host"
"""A column more, where several machines ran the cells."""
BUILD_FILE = "Kbuild"
"""Stands for the module as a whole, where a break has no line of its own."""

MAP_HEADINGS = ("kind", "name", "at", "first kernel", "also")
_STYLE = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.DEAD: "red",
    Verdict.INFRASTRUCTURE: "yellow",
    Verdict.NOT_RUN: "dim",
}
_CSS = (
    "body{font-family:sans-serif}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}"
    ".pass{background:#dfd}.fail,.dead-guest{background:#fdd}.infrastructure{background:#ffd}"
    ".not-run{color:#777}"
)


def headings(report: MatrixReport) -> tuple[str, ...]:
    """The table's columns."""
    hosts = {cell.host for cell in report.cells if cell.host}
    return (*HEADINGS, HOST) if len(hosts) > 1 else HEADINGS


def row(cell: CellReport, columns: Sequence[str] = HEADINGS) -> tuple[str, ...]:
    """A cell as its row's texts."""
    ran = cell.verdict is not Verdict.NOT_RUN
    return (
        cell.kernel,
        cell.release,
        cell.vendor,
        cell.cell,
        cell.verdict.value + (" (before)" if cell.from_before else ""),
        str(cell.passed) if ran else "",
        str(cell.failed) if ran else "",
        f"{cell.seconds:.0f}" if ran else "",
        cell.cause,
        *((cell.host,) if HOST in columns else ()),
    )


def map_rows(builds: Sequence[BuildReport]) -> list[tuple[str, ...]]:
    """The API map: what broke, where, on which kernel first."""
    return [
        (
            drift.found.kind,
            drift.found.name,
            drift.found.place,
            drift.kernels[0],
            ", ".join(drift.kernels[1:]),
        )
        for drift in drifts(builds)
    ]


def map_annotations(builds: Sequence[BuildReport], source: str) -> tuple[Annotation, ...]:
    """The API map at the lines of the module, which lies in ``source``."""
    found = []
    for drift in drifts(builds):
        place = split_place(drift.found.place) or (BUILD_FILE, 1)
        title = f"{drift.found.kind} {drift.found.name}: {', '.join(drift.kernels)}"
        found.append(Annotation(f"{source}/{place[0]}", place[1], title, drift.found.text))
    return tuple(found)


def summary(report: MatrixReport) -> str:
    """The whole run in a sentence."""
    counts = {verdict: sum(c.verdict is verdict for c in report.cells) for verdict in Verdict}
    cells = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    built = sum(build.ok for build in report.builds)
    return (
        f"suite '{report.suite}', {built} of {len(report.builds)} kernels built, "
        f"cells: {cells or 'none'}, {report.seconds:.0f} s, commit {report.commit or 'unknown'}"
    )


def build_lines(builds: Sequence[BuildReport]) -> list[str]:
    """One line per kernel, for the terminal."""
    return [
        f"{build.kernel:<24} {build.release:<28} "
        + (f"ok, {build.seconds:.0f} s" if build.ok else build.cause)
        for build in builds
    ]


# -- terminal ------------------------------------------------------------------


def terminal_table(report: MatrixReport) -> Table:
    """The table for a terminal."""
    table = Table(title=f"matrix: {summary(report)}", title_justify="left")
    columns = headings(report)
    for heading in columns:
        table.add_column(heading, justify="right" if heading in ("passed", "failed", "s") else None)  # type: ignore[arg-type]
    for cell in report.cells:
        table.add_row(*row(cell, columns), style=_STYLE[cell.verdict])
    return table


def terminal_map(builds: Sequence[BuildReport]) -> Table | None:
    """The API map for a terminal; None where nothing broke."""
    rows = map_rows(builds)
    if not rows:
        return None
    table = Table(title="API map: what the module breaks on", title_justify="left")
    for heading in MAP_HEADINGS:
        table.add_column(heading, overflow="fold")
    for texts in rows:
        table.add_row(*texts)
    return table


# -- documents -----------------------------------------------------------------


def markdown(report: MatrixReport) -> str:
    """The run for a step summary or a closing note."""
    parts = [f"# Kernel matrix\n\n{summary(report)}\n"]
    rows = map_rows(report.builds)
    if rows:
        parts.append("## What the module breaks on\n\n" + _markdown_table(MAP_HEADINGS, rows))
    columns = headings(report)
    parts.append(_markdown_table(columns, [row(cell, columns) for cell in report.cells]))
    return "\n".join(parts)


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_markdown_row(headings), _markdown_row(["---"] * len(headings))]
    return "\n".join([*lines, *map(_markdown_row, rows)]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def html_page(report: MatrixReport) -> str:
    """The run as a page that needs nothing else."""
    parts = [
        "<!doctype html><meta charset=utf-8><title>Kernel matrix</title>",
        f"<style>{_CSS}</style><h1>Kernel matrix</h1><p>{html.escape(summary(report))}</p>",
    ]
    rows = map_rows(report.builds)
    if rows:
        parts.append("<h2>What the module breaks on</h2>")
        parts.append(_html_table(MAP_HEADINGS, [("", texts) for texts in rows]))
    columns = headings(report)
    styled = [(cell.verdict.value.replace(" ", "-"), row(cell, columns)) for cell in report.cells]
    parts.append(_html_table(columns, styled))
    return "\n".join(parts) + "\n"


def _html_table(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{html.escape(text)}" for text in headings)
    body = "\n".join(
        f'<tr class="{style}">' + "".join(f"<td>{html.escape(text)}" for text in texts)
        for style, texts in rows
    )
    return f"<table><tr>{head}\n{body}</table>"


def junit(report: MatrixReport) -> str:
    """The run for tools that read JUnit: a case per build and per cell."""
    suites = ElementTree.Element("testsuites", name="kernel matrix")
    builds = ElementTree.SubElement(suites, "testsuite", name="builds")
    for build in report.builds:
        case = _case(builds, "build", build.kernel, build.seconds)
        if build.missing:
            ElementTree.SubElement(case, "skipped", message=build.missing)
        elif not build.ok:
            ElementTree.SubElement(case, "failure", message=build.cause)
    cells = ElementTree.SubElement(suites, "testsuite", name="cells")
    for cell in report.cells:
        case = _case(cells, "cell", cell.cell or f"{cell.kernel}-{cell.vendor}", cell.seconds)
        kind = {
            Verdict.FAIL: "failure",
            Verdict.DEAD: "failure",
            Verdict.INFRASTRUCTURE: "error",
            Verdict.NOT_RUN: "skipped",
        }.get(cell.verdict)
        if kind is not None:
            ElementTree.SubElement(case, kind, message=f"{cell.verdict}: {cell.cause}")
    for suite in (builds, cells):
        suite.set("tests", str(len(suite)))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped",) * 2):
            suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(
        suites, encoding="unicode"
    )


def _case(suite: ElementTree.Element, kind: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=f"matrix.{kind}", name=name, time=f"{seconds:.1f}"
    )


def write_all(report: MatrixReport, folder: Path) -> tuple[Path, ...]:
    """All documents of a run."""
    return tuple(
        write_atomically(folder / name, text)
        for name, text in (
            (DOCUMENT, json.dumps(report.to_json(), indent=1) + "\n"),
            ("matrix.md", markdown(report)),
            ("matrix.html", html_page(report)),
            ("junit.xml", junit(report)),
        )
    )
