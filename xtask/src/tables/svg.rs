//! The little of SVG that the pictures need, in the colours of the other pictures in `docs/`.

/// Text, so that XML takes it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The first lines of a picture; `</svg>` ends it.
pub(super) fn begin(width: u32, height: u32, title: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" font-size="14">
  <title>{}</title>
  <style>
    .bg {{ fill: #ffffff }} .t {{ fill: #1b1f24 }} .m {{ fill: #57606a; font-size: 12px }} .h {{ font-weight: 600 }}
    .node {{ fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.5 }} .live {{ fill: #dafbe1; stroke: #1a7f37 }}
    .wait {{ fill: #fff1c2; stroke: #bf8700 }} .end {{ fill: #eaeef2; stroke: #57606a }}
    .go {{ stroke: #57606a; stroke-width: 1.8; fill: none }} .up {{ stroke: #1a7f37; stroke-width: 2.4; fill: none }}
    .down {{ stroke: #afb8c1; stroke-width: 1.4; fill: none }}
  </style>
  <defs>
    <marker id="go" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="#57606a"/></marker>
    <marker id="up" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 10 5 0 10z" fill="#1a7f37"/></marker>
    <marker id="down" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="#afb8c1"/></marker>
  </defs>
  <rect class="bg" width="{width}" height="{height}"/>
"##,
        escape(title)
    )
}
