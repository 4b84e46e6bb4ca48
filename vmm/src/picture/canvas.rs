//! An SVG document in the making: shapes, text, escaping, and the one style sheet.

use std::fmt::Write;

const STYLE: &str = "\
text{font-family:'DejaVu Sans','Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#24292f}
.heading{font-size:18px;font-weight:bold}.totals{font-size:13px}.note,.tick{font-size:11px;fill:#57606a}
.name,.figure{font-size:12px}.small{font-size:10px}.dim{fill:#57606a}.bad{fill:#b42318;font-weight:bold}
.bold{font-weight:bold}.page{fill:#ffffff}.stripe{fill:#f6f8fa}.grid{stroke:#d0d7de}
.tree{stroke:#8c959f;fill:none}.queued{stroke:#8c959f;stroke-dasharray:2 2}
.bar{fill:#c9d3df}.critical{fill:none;stroke:#cf222e;stroke-width:2}.given-up{fill:url(#given-up)}
.sync{fill:none;stroke:#24292f;stroke-width:1}.serial{fill:#9aa7b5}.parallel{fill:#33475b}
.ideal{stroke:#cf222e;stroke-width:2}.pause{fill:#8c959f}.teardown{fill:#33475b}.rest{fill:#d5b46a}
.p0{fill:#4c78a8}.p1{fill:#72b7b2}.p2{fill:#f2a65a}.p3{fill:#b79ad2}.p4{fill:#8fbf6b}.p5{fill:#e8a0b4}.p6{fill:#c8b560}.p7{fill:#9c8573}";

/// Which end of a text stands at the given place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// See the module.
#[derive(Default)]
pub(super) struct Canvas {
    shapes: String,
}

impl Canvas {
    /// A rectangle; `title`, unless empty, is shown on hover.
    pub(super) fn rect(
        &mut self,
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        class: &str,
        title: &str,
    ) {
        let open = format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}""#
        );
        if title.is_empty() {
            self.push(&format!("{open}/>"));
        } else {
            self.push(&format!("{open}><title>{}</title></rect>", escape(title)));
        }
    }

    /// A line.
    pub(super) fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        self.push(&format!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    /// Text on the base line `y`.
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{}</text>"#,
            escape(text)
        ));
    }

    fn push(&mut self, shape: &str) {
        self.shapes.push_str(shape);
        self.shapes.push('\n');
    }

    /// The document.
    pub(super) fn finish(self, width: f64, height: f64) -> String {
        let mut document = String::new();
        let _ = write!(
            document,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}">
<style>{STYLE}</style>
<defs><pattern id="given-up" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="#f4c7c3"/><rect width="3" height="6" fill="#cf222e"/></pattern></defs>
<rect width="{width:.0}" height="{height:.0}" class="page"/>
{}</svg>
"##,
            self.shapes
        );
        document
    }
}

/// Text as it may stand in XML: markup escaped, what XML cannot hold replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_do_not_get_through() {
        assert_eq!(
            escape("<a href=\"x\">&\u{0}\u{1b}"),
            "&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}\u{fffd}"
        );
    }
}
