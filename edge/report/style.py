"""How the page of a report looks: on a screen, light and dark, and on paper."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --read: #b8bfc6;
  --amber: #b45309; --red: #b91c1c; --accent: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #3d444d; --paper: #0d1117;
  --read: #59636e; --amber: #fbbf24; --red: #f87171; --accent: #79c0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px; max-width: 960px; background: var(--paper); color: var(--ink);
  font: 400 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1, h2, h3 { font-weight: 600; margin: 24px 0 8px; font-size: 14px; }
h1 { font-size: 20px; margin: 4px 0; }
h2 { font-size: 20px; border-top: 1px solid var(--line); padding-top: 16px; }
p { margin: 4px 0 8px; }
.soft, dt, th, figcaption { color: var(--soft); font-size: 12px; font-weight: 400; }
.verdict { font-weight: 600; }
.trouble { color: var(--red); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 8px 0; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: 8px 0; }
th { text-align: left; }
th, td { padding: 4px 8px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; padding-right: 16px; }
table.tags td:nth-child(n + 3) { white-space: nowrap; }
table.tags td:nth-child(-n + 2) { min-width: 9em; }
table.rows td:first-child { width: 34%; }
table.rows td:nth-child(2) { width: 5em; font-weight: 600; }
.name { font-weight: 600; }
ul { margin: 0; padding: 0; list-style: none; }
code, pre { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; margin: 4px 0; }
figure { margin: 8px 0; }
svg.plot { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; }
.read { fill: var(--read); } .paper { fill: var(--paper); } .amber { fill: var(--amber); }
.cross { stroke: var(--red); stroke-width: 1; } .missing { fill: var(--red); }
.declared { fill: url(#declared); stroke: var(--amber); stroke-width: 0.5; }
.undeclared { fill: url(#undeclared); stroke: var(--red); stroke-width: 0.5; }
.axis, .grid { stroke: var(--line); } .bound { fill: none; stroke: var(--accent); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.legend svg { width: 24px; height: 12px; vertical-align: -1px; margin-right: 4px; }
.sign { display: grid; grid-template-columns: repeat(3, 1fr); gap: 56px 24px; margin-top: 64px; break-inside: avoid; }
.sign div { border-top: 1px solid var(--ink); padding-top: 4px; }
tr, figure, .lane { break-inside: avoid; }
h2, h3 { break-after: avoid; }
@media screen and (max-width: 600px) {
  figure { overflow-x: auto; } svg.plot { min-width: 640px; } dl { display: block; } dd { margin-bottom: 8px; }
  table.rows thead { display: none; } table.rows tr { display: block; border-bottom: 1px solid var(--line); }
  table.rows td, table.rows td:first-child, table.rows td:nth-child(2) { display: block; width: auto; border: 0; }
  table:not(.rows) { display: block; overflow-x: auto; }
}
@media print {
  :root { color-scheme: light; --ink: #000000; --soft: #333333; --line: #999999; --paper: #ffffff; --read: #cccccc;
    --amber: #000000; --red: #000000; --accent: #000000; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  thead { display: table-header-group; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

PAPER = """\
@page { size: A4; margin: 22mm 15mm 18mm;
  @top-left { content: "%s"; font: 9pt system-ui, sans-serif; }
  @bottom-left { content: "%s"; font: 9pt system-ui, sans-serif; }
  @bottom-right { content: "Page " counter(page) " of " counter(pages); font: 9pt system-ui, sans-serif; } }
"""
