"""How the report looks: the palette of Okabe and Ito, which colour-blind people can tell apart, in light and dark."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = """
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --grid: #e4e7eb; --line: #b6bdc5; --idle: #f0f2f4;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; --s4: #1b1f24; --s5: #e69f00; --s6: #56b4e9;
  --high: #d55e00; --medium: #0072b2; --low: #9ad4f2;
  --h1: #b9d6ea; --h2: #6faed4; --h3: #0072b2; --h4: #003a5c;
"""
_DARK: Final = """
  --paper: #14181d; --ink: #e8ebee; --soft: #a3adb8; --grid: #2a3038; --line: #56606b; --idle: #20262d;
  --s0: #56b4e9; --s1: #e69f00; --s2: #12b88a; --s3: #cc79a7; --s4: #e8ebee; --s5: #f0e442; --s6: #d55e00;
  --high: #e69f00; --medium: #56b4e9; --low: #23618a;
  --h1: #1f4763; --h2: #2c7bb0; --h3: #56b4e9; --h4: #d6effc;
"""
COLOURS: Final = 7
DASHES: Final = ("", "14 4", "10 3 2 3", "6 4", "2 3")
"""From dense to sparse, so that where lines coincide the later ones let the earlier ones through.

Two lines that share a dash differ in colour, and the other way round, for the first 35 policies."""

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

CHART_CSS: Final = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}\n"
    f"svg.chart {{ font: 12px {FONT}; }}\n"
    """
svg.chart text { fill: var(--ink); }
svg.chart text.soft { fill: var(--soft); }
svg.chart text.head { font-weight: 600; font-size: 13px; }
svg.chart text.tiny { font-size: 10px; }
svg.chart .paper { fill: var(--paper); }
svg.chart .idle { fill: var(--idle); }
svg.chart .grid { stroke: var(--grid); }
svg.chart .axis { stroke: var(--line); }
svg.chart .mark { stroke: var(--soft); stroke-dasharray: 1 3; }
svg.chart .curve { fill: none; stroke-width: 1.7; stroke-linejoin: round; }
svg.chart .thin { stroke-width: 1.2; }
svg.chart .heat { fill: none; stroke-width: .88; }
svg.chart .high { fill: var(--high); } svg.chart .medium { fill: var(--medium); } svg.chart .low { fill: var(--low); }
"""
    + "".join(f"svg.chart .s{index} {{ stroke: var(--s{index}); }}\n" for index in range(COLOURS))
    + "".join(f"svg.chart .d{index} {{ stroke-dasharray: {dash or 'none'}; }}\n" for index, dash in enumerate(DASHES))
    + "".join(
        f"svg.chart .h{level} {{ stroke: var(--h{level}); }}\n"
        f"svg.chart rect.h{level} {{ fill: var(--h{level}); stroke: none; }}\n"
        for level in range(1, 5)
    )
)

PAGE_CSS: Final = (
    f"body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 {FONT}; }}\n"
    """
main { max-width: 1060px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 6px; border-top: 1px solid var(--grid); padding-top: 18px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
p { max-width: 50em; } figcaption { max-width: 58em; }
.soft, figcaption { color: var(--soft); }
.lead { font-size: 19px; line-height: 1.45; margin: 14px 0; overflow-wrap: anywhere; }
figure { margin: 14px 0 26px; }
figcaption { font-size: 14px; margin-bottom: 6px; }
svg.chart { display: block; width: 100%; height: auto; }
svg.narrow { display: none; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; vertical-align: bottom; border-bottom: 1px solid var(--grid); }
thead th { font-weight: 500; color: var(--soft); font-size: 12.5px; line-height: 1.25; }
tbody td { white-space: nowrap; }
tbody th { font-weight: 500; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody th { min-width: 7em; max-width: 14em; overflow-wrap: break-word; }
td b { font-weight: 750; }
.note { font-size: 14px; color: var(--soft); }
.text td, .text th { padding: 2px 16px 2px 0; }
.text td, .text th { text-align: left; white-space: normal; vertical-align: top; overflow-wrap: anywhere; }
.text th { font-weight: 500; color: var(--soft); white-space: nowrap; }
@media (max-width: 640px) {
  main { padding: 12px 14px 40px; }
  h1 { font-size: 22px; } .lead { font-size: 17px; }
  svg.wide { display: none; } svg.narrow { display: block; }
}
@media print {
  @page { margin: 14mm; }
  main { max-width: none; padding: 0; }
  body { font-size: 11pt; } h2 { break-after: avoid; } figure { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  svg.wide { display: block; } svg.narrow { display: none; }
  table { font-size: 8pt; } th, td { padding: 3px 4px; } thead th { font-size: 7pt; }
  .scroll { overflow: visible; } th:first-child { position: static; }
}
"""
)
