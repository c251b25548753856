"""The page: HTML with everything inside it, so that it can be kept, mailed and read without a network."""

import html
from collections.abc import Mapping, Sequence

from benchmarks.methods import METHODS
from benchmarks.summary import Row, capital, labels

STYLE = """
:root { color-scheme: light dark; --ground: #fdfdfb; --ink: #1d2126; --quiet: #5d6670; --line: #d9dcdf;
  --raised: #f3f3ef; --accent: #b5471a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --ink: #e4e6e8; --quiet: #9aa4ae; --line: #343a41;
  --raised: #1d2126; --accent: #f08a5a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.2rem 4rem; max-width: 66rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; }
p { max-width: 44rem; margin: .6rem 0; }
.finding { font-size: 1.2rem; line-height: 1.45; border-left: 4px solid var(--accent); padding-left: 1rem;
  margin: 1.2rem 0; }
.quiet, figcaption { color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .4rem .8rem .4rem 0; text-align: right; vertical-align: bottom; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { font-weight: 600; border-bottom: 1px solid var(--ink); white-space: normal; min-width: 5.2rem; }
tbody th { font-weight: 600; padding-top: 1rem; border-bottom: 1px solid var(--line); }
tbody td { border-bottom: 1px solid var(--line); }
.best { font-weight: 700; }
figure { margin: 1rem 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem 2rem; }
.panels svg { width: 100%; height: auto; max-width: 34rem; font-family: inherit; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; padding: 0; margin: .6rem 0; list-style: none;
  font-size: .9rem; }
.key i { display: inline-block; width: 1.6rem; border-top: 3px solid; margin-right: .45rem; vertical-align: .25em; }
.key i.dashed { border-top-style: dashed; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.2rem; font-size: .93rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--raised); padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto; font-size: .88rem; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
"""


def page(title: str, finding: str, sections: Sequence[str]) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="finding">{html.escape(finding)}</p>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A heading with what stands below it."""
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def panels(figures: Sequence[str], caption: str, methods: Sequence[str] = ()) -> str:
    """Figures side by side where there is room, with a key to the methods' colours and a caption below."""
    return (
        f'<figure>\n{key(methods)}<div class="panels">\n'
        + "\n".join(f"<div>{figure}</div>" for figure in figures)
        + f"\n</div>\n<figcaption>{html.escape(caption)}</figcaption>\n</figure>"
    )


def key(methods: Sequence[str]) -> str:
    """Which colour stands for which method."""
    entries = []
    for name in methods:
        method = METHODS[name]
        dashed = ' class="dashed"' if method.dashed else ""
        entries.append(f'<li><i{dashed} style="border-color: {method.colour}"></i>{html.escape(method.name)}</li>')
    return f'<ul class="key">{"".join(entries)}</ul>\n' if entries else ""


def table(rows: Sequence[Row], backends: Mapping[str, str]) -> str:
    """The results, one group of rows for each kind of labels; the lowest error of each group and backend is bold."""
    headings = ["Method", "Epochs", "Gradient evaluations"]
    headings += [f"Test error, {name} (%)" for name in backends.values()]
    headings += [f"Time relative to SGD, {name}" for name in backends.values()]
    lines = ["<thead><tr>" + "".join(f'<th scope="col">{html.escape(h)}</th>' for h in headings) + "</tr></thead>"]
    for noise in dict.fromkeys(row.noise for row in rows):
        group = [row for row in rows if row.noise == noise]
        group_heading = html.escape(capital(labels(noise)))
        lines.append(f'<tbody><tr><th scope="rowgroup" colspan="{len(headings)}">{group_heading}</th></tr>')
        for row in group:
            cells = [f"<td>{html.escape(METHODS[row.method].name)}</td><td>{row.epochs}</td>"]
            cells.append(f"<td>{row.gradient_evaluations:,}</td>")
            for backend in backends:
                best = min(other.errors[backend].mean for other in group) == row.errors[backend].mean
                cells.append(f"<td{' class=best' if best else ''}>{row.errors[backend].percent()}</td>")
            cells += [f"<td>{row.relative_time[backend]:.2f}</td>" for backend in backends]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text, its first column the rows' names."""
    head, *lines = (
        f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row)}</tr>"
        for tag, row in (("th", headings), *(("td", row) for row in rows))
    )
    body = "\n".join(lines)
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table></div>'


def facts(entries: Mapping[str, str]) -> str:
    """Names with their values."""
    return "<dl>" + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in entries.items()) + "</dl>"


def command(line: str) -> str:
    """A command to copy."""
    return f"<pre><code>{html.escape(line)}</code></pre>"
