"""The one style sheet of all views, light and dark; no colour is the only sign of anything."""

from __future__ import annotations

LIGHT = {
    "text": "#1a1a1a",
    "muted": "#57606a",
    "panel": "#ffffff",
    "line": "#d0d5dc",
    "bar": "#e7eaee",
    "skill": "#1d5fbf",
    "retention": "#0a7a5a",
    "third": "#a2410e",
    "fourth": "#7a3fa0",
    "right": "#0a6b4f",
    "wrong": "#a11d2e",
    "warn": "#fff3d6",
    "strong": "#a11d2e",
}
DARK = {
    "text": "#f6f3ef",
    "muted": "#b6bdc9",
    "panel": "#141b2a",
    "line": "#465064",
    "bar": "#2d3646",
    "skill": "#79b0ff",
    "retention": "#4fd0a5",
    "third": "#ffab76",
    "fourth": "#d3a4f5",
    "right": "#5fd9ae",
    "wrong": "#ff9aa4",
    "warn": "#4a3605",
    "strong": "#ffc4b0",
}
KL_LIGHT = (
    "#ffffff", "#fff6e8", "#ffedd1", "#ffe1b5", "#ffd399", "#ffc27d", "#ffae63", "#fb984f", "#f58242", "#ee6c3a",
    "#e55934",
)  # fmt: skip
KL_DARK = (
    "#141b2a", "#2a201a", "#38261a", "#472c1a", "#56321b", "#66371b", "#763c1b", "#863f1b", "#93401c", "#9e3f20",
    "#a93c27",
)  # fmt: skip


def _variables(colours: dict[str, str], kl: tuple[str, ...]) -> str:
    named = {**colours, **{f"kl-{i}": colour for i, colour in enumerate(kl)}}
    return "".join(f"--wb-{name}:{value};" for name, value in named.items())


_DARK_PAGES = '.dark .wb,body[data-jp-theme-light="false"] .wb,.vscode-dark .wb'
"""A page of Gradio, a JupyterLab notebook, one in VS Code."""

_KL = "".join(f".wb .kl-{i}{{background:var(--wb-kl-{i},{colour})}}" for i, colour in enumerate(KL_LIGHT))

CSS = f"""
.wb{{{_variables(LIGHT, KL_LIGHT)}color:var(--wb-text);line-height:1.5}}
{_DARK_PAGES}{{{_variables(DARK, KL_DARK)}}}
{_KL}
.wb,.wb *{{box-sizing:border-box}}
.wb b{{font-weight:600;color:inherit}}
.wb span,.wb bdi{{color:inherit}}
.wb .wb-muted,.wb .wb-note,.wb .wb-hint,.wb .wb-say{{color:var(--wb-muted,#57606a)}}
.wb .wb-title{{font-weight:600;margin-bottom:.25rem}}
.wb .wb-ask{{margin-bottom:.4rem;overflow-wrap:anywhere}}
.wb .wb-badge{{border:1px solid var(--wb-line,#d0d5dc);border-radius:1rem;padding:0 .6rem;font-size:.85em;
  display:inline-block}}
.wb .wb-stage{{position:relative;padding-bottom:11.4rem}}
.wb .wb-stage.wb-short{{padding-bottom:3.4rem}}
.wb .wb-tokens{{background:var(--wb-panel,#fff);border:1px solid var(--wb-line,#d0d5dc);border-radius:.5rem;
  padding:.7rem .8rem;max-height:18rem;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;line-height:2;
  font-size:1.05em;min-height:3.4rem}}
.wb .tk{{color:var(--wb-text,#1a1a1a);border-radius:.2rem;padding:.12em 0;cursor:default;white-space:pre-wrap}}
.wb .tk.wb-strong{{text-decoration:underline;text-decoration-thickness:2px;text-underline-offset:.22em}}
.wb .tk:hover,.wb .tk:focus{{outline:2px solid var(--wb-skill,#1d5fbf);outline-offset:1px}}
.wb .wb-tip{{display:none;position:absolute;left:0;right:0;bottom:0;height:11rem;padding:.5rem .8rem;
  background:var(--wb-panel,#fff);border:1px solid var(--wb-line,#d0d5dc);border-radius:.5rem;overflow:auto;
  line-height:1.45;font-size:.95rem;text-decoration:none;white-space:normal;z-index:2}}
.wb .wb-short .wb-tip{{height:3rem}}
.wb .tk:focus>.wb-tip{{display:block}}
.wb .tk:hover>.wb-tip{{display:block;z-index:3}}
.wb .wb-tip b{{display:block}}
.wb .wb-tip i{{display:inline-block;width:50%;vertical-align:top;font-style:normal;white-space:pre;overflow:hidden;
  text-overflow:ellipsis;font-variant-numeric:tabular-nums;color:var(--wb-text,#1a1a1a)}}
.wb .wb-tip i::first-line{{color:var(--wb-muted,#57606a)}}
.wb .wb-hint{{position:absolute;left:0;right:0;bottom:0;height:11rem;padding:.5rem .8rem;font-size:.92em;
  border:1px dashed var(--wb-line,#d0d5dc);border-radius:.5rem;overflow:hidden}}
.wb .wb-short .wb-hint{{height:3rem}}
.wb .wb-legend{{display:flex;flex-wrap:wrap;align-items:center;gap:.15rem .3rem;font-size:.85em;margin-top:.5rem}}
.wb .wb-legend .tk{{padding:0 .4rem}}
.wb p.wb-say{{margin:.35rem 0 0;color:var(--wb-text,#1a1a1a)}}
.wb-pair{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:.75rem 1.5rem}}
.wb .wb-meter-head{{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 .8rem}}
.wb .wb-bar{{position:relative;height:1rem;border-radius:.5rem;background:var(--wb-bar,#e7eaee);overflow:hidden;
  margin:.25rem 0}}
.wb .wb-bar.wb-thin{{height:.45rem;margin:.4rem 0 0}}
.wb .wb-fill{{position:absolute;left:0;top:0;bottom:0;background:var(--wb-skill,#1d5fbf)}}
.wb .wb-fill.wb-retention{{background:var(--wb-retention,#0a7a5a)}}
.wb .wb-interval{{position:absolute;top:50%;height:2px;margin-top:-1px;background:var(--wb-text,#1a1a1a)}}
.wb .wb-notch{{position:absolute;top:0;bottom:0;width:3px;margin-left:-3px;background:var(--wb-third,#a2410e)}}
.wb .wb-note{{font-size:.88em;min-height:1.5em}}
.wb .wb-chart{{display:grid;grid-template-columns:auto 1fr;grid-template-rows:11rem auto;gap:0 .4rem;font-size:.82em;
  color:var(--wb-muted,#57606a);margin:.3rem 0}}
.wb .wb-y{{display:flex;flex-direction:column;justify-content:space-between;text-align:right;margin:-.7em 0;
  font-variant-numeric:tabular-nums}}
.wb .wb-x{{grid-column:2;display:flex;justify-content:space-between;font-variant-numeric:tabular-nums;
  padding-top:.2rem}}
.wb .wb-chart svg{{width:100%;height:100%;overflow:visible;display:block}}
.wb .wb-grid{{stroke:var(--wb-line,#d0d5dc);stroke-width:1;vector-effect:non-scaling-stroke}}
.wb .wb-l{{fill:none;stroke-width:2.5;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}}
.wb .wb-l.wb-dash{{stroke-dasharray:8 6;stroke-linecap:butt}}
.wb .wb-dots{{fill:none;stroke-width:7;stroke-linecap:round;vector-effect:non-scaling-stroke}}
.wb .wb-dots.wb-under{{stroke-width:11}}
.wb .wb-dots.wb-over{{stroke-width:6}}
.wb .wb-c1{{stroke:var(--wb-skill,#1d5fbf)}}.wb .wb-c2{{stroke:var(--wb-retention,#0a7a5a)}}
.wb .wb-c3{{stroke:var(--wb-third,#a2410e)}}.wb .wb-c4{{stroke:var(--wb-fourth,#7a3fa0)}}
.wb .wb-keys{{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.9em}}
.wb .wb-keys span{{display:inline-flex;align-items:center;gap:.4rem;overflow-wrap:anywhere}}
.wb .wb-keys svg{{width:2rem;height:.7rem;flex:none}}
.wb svg.wb-spark{{width:6rem;height:1.6rem;vertical-align:middle}}
.wb-columns{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.75rem}}
.wb.wb-answer{{background:var(--wb-panel,#fff);border:1px solid var(--wb-line,#d0d5dc);border-radius:.5rem;
  padding:.6rem .8rem;height:100%}}
.wb .wb-text{{white-space:pre-wrap;overflow-wrap:anywhere;max-height:24rem;overflow:auto;min-height:1.5rem}}
.wb .wb-right,.wb .wb-wrong{{white-space:nowrap}}
.wb .wb-right{{color:var(--wb-right,#0a6b4f);font-weight:600}}.wb .wb-wrong{{color:var(--wb-wrong,#a11d2e);
  font-weight:600}}
.wb .wb-state{{font-size:1.05em}}
.wb.wb-warning{{background:var(--wb-warn,#fff3d6);border:1px solid var(--wb-line,#d0d5dc);border-radius:.5rem;
  padding:.6rem .8rem}}
.wb .wb-wide{{overflow-x:auto}}
@media (forced-colors:active){{.wb .tk,.wb .wb-bar,.wb .wb-bar *{{forced-color-adjust:none}}}}
.wb tr[aria-current]{{background:var(--wb-bar,#e7eaee)}}
.wb table,.wb thead,.wb tbody,.wb tr{{border:0}}
.wb .wb-wide th,.wb .wb-wide td{{min-width:4rem;overflow-wrap:break-word}}
.wb .wb-wide .wb-long{{min-width:8.5rem;overflow-wrap:anywhere}}
.wb table{{border-collapse:collapse;width:100%;font-size:.92em}}
.wb table th,.wb table td{{text-align:left;padding:.3rem .6rem;border:0;border-bottom:1px solid var(--wb-line,#d0d5dc);
  overflow-wrap:anywhere;vertical-align:top;color:var(--wb-text,#1a1a1a)}}
"""
