"""How reports look: a style sheet that stands inside of each page."""

STYLE = """\
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2230; --soft: #5b6474; --line: #dfe3ea;
  --zebra: #f7f9fb; --accent: #b45309; --bar: #e08a2c; --track: #eceff4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151b; --card: #1b2029; --ink: #e8ebf0; --soft: #a3adbb; --line: #313947;
    --zebra: #202632; --accent: #f5a54a; --bar: #d9832b; --track: #2c3442;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 74rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere;
}
h1 { margin: 0 0 .5rem; font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.2rem); line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 0 0 .75rem; font-size: 1.2rem; line-height: 1.3; }
p { margin: 0 0 .9rem; max-width: 46rem; }
.summary { font-size: 1.1rem; color: var(--soft); }
a { color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0; padding: 0; list-style: none; font-size: .95rem; }
section {
  margin-top: 1.5rem; padding: 1.25rem 1.5rem 1.4rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
}
section > :last-child { margin-bottom: 0; }
.scroll { margin: 0 0 1rem; overflow-x: auto; }
table { border-collapse: collapse; min-width: min(100%, 34rem); font-size: .94rem; }
caption { padding-bottom: .6rem; text-align: left; color: var(--soft); }
caption span { position: sticky; left: 0; display: block; max-width: min(46rem, calc(100vw - 4rem)); }
th, td { padding: .42rem .9rem .42rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: baseline; }
th + th, td { padding-left: .9rem; }
thead th {
  border-bottom: 2px solid var(--line); color: var(--soft); font-size: .86rem; font-weight: 600;
  vertical-align: bottom; overflow-wrap: normal;
}
tbody th, tfoot th { font-weight: 500; min-width: min(13rem, 38vw); max-width: 30rem; }
tbody tr:hover { background: var(--zebra); }
tr.strong > *, tfoot tr > * { font-weight: 650; }
tfoot tr > * { border-bottom: 0; border-top: 2px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead .number { white-space: normal; }
.share > :last-child { min-width: 3.7rem; }
.share { display: inline-flex; align-items: center; justify-content: flex-end; gap: .2rem; }
.track { width: 4.5rem; height: .5rem; border-radius: 4px; background: var(--track); overflow: hidden; }
.bar { display: block; height: 100%; background: var(--bar); border-radius: 4px; }
figure { margin: 0 0 1rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 8px; }
figcaption { margin-top: .6rem; max-width: 46rem; color: var(--soft); font-size: .94rem; }
summary { cursor: pointer; color: var(--accent); }
details[open] > summary { margin-bottom: .75rem; }
@media (max-width: 40rem) {
  .wide img { max-width: none; width: 56rem; }
  body { padding: 1.25rem .75rem 2rem; } section { padding: 1rem; border-radius: 8px; }
}
@media print { body { background: none; max-width: none; } section { break-inside: avoid; border: 0; padding: 0; } nav { display: none; } }
"""
