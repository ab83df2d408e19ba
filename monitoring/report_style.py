"""How a report's page looks: on a phone, in the dark and on paper too."""

STYLE = """
:root { --ink: #24292f; --faint: #5b646e; --line: #d9dee3; --paper: #fff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --faint: #a3adb7; --line: #3a424a; --paper: #15191d; --card: #1f252b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: 0.5rem 0 0; }
h2 { font-size: 1.3rem; margin: 2rem 0 0.6rem; border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.3rem 0; }
ul { margin: 0.5rem 0; padding-left: 0; list-style: none; }
li { margin: 0.3rem 0; }
header p, small { color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0.8rem; margin: 1rem 0; }
.card { display: flex; flex-direction: column; padding: 0.8rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
.figure { font-size: 1.9rem; line-height: 1.3; font-weight: 600; }
.incident { margin: 0.6rem 0; }
.wide { overflow-x: auto; margin: 0.8rem 0; }
img { display: block; width: 100%; min-width: 46rem; height: auto; border-radius: 8px; background: #fff; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.3rem 0.75rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
.numbers td, .numbers thead th + th { text-align: right; }
thead th { color: var(--faint); font-weight: 600; }
tbody th { font-weight: 400; }
summary { cursor: pointer; font-weight: 600; margin: 0.6rem 0; }
code { background: var(--card); border: 1px solid var(--line); border-radius: 4px; padding: 0.1rem 0.35rem; }
.good, .bad { padding-left: 0.7rem; border-left: 4px solid #1a7f37; font-weight: 600; }
.bad { border-color: #cf222e; }
.badge { display: inline-block; padding: 0 0.5rem; border-radius: 1rem; font-size: 0.8rem; background: #57606a;
  color: #fff; }
.medium { background: #9a6700; } .high { background: #bc4c00; } .critical { background: #cf222e; }
@media print { .card { break-inside: avoid; } }
"""
