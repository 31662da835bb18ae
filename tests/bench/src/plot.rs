//! A plot of bars as SVG: medians, with a line to the p99.

use std::fmt::Write as _;

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Whether it is Handover's.
    pub(crate) is_ours: bool,
    /// The median and the p99, or nothing if they are unknown.
    pub(crate) value: Option<(f64, f64)>,
    /// The median as the reader sees it.
    pub(crate) shown: String,
}

/// Bars under a common heading.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) heading: String,
    pub(crate) bars: Vec<Bar>,
}

/// How the length of a bar follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// For numbers that differ by factors of ten and more.
    Logarithmic,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 22.0;
const TOP: f64 = 34.0;

/// Colours that are legible on a light and on a dark page, and for readers who see no red.
const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.h{font-weight:600}.t{font-size:15px;font-weight:600}\
.ours{fill:#0969da}.other{fill:#8c959f}.p{stroke:#57606a;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#4493f8}.other{fill:#6e7681}.p{stroke:#b1bac4}}";

/// Draws the groups below each other, all on one scale.
pub(crate) fn bars(title: &str, scale: Scale, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len() + 1).sum();
    let height = TOP + ROW * f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) + 8.0;
    let values = groups.iter().flat_map(|group| &group.bars);
    let axis = Axis::new(scale, values.filter_map(|bar| bar.value));
    let title = match scale {
        Scale::Linear => title.to_owned(),
        Scale::Logarithmic => format!("{title}, on a logarithmic scale"),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<text class=\"t\" x=\"4\" y=\"20\">{title}</text>\n",
        title = escaped(&title)
    );
    let mut y = TOP;
    for group in groups {
        text(&mut svg, "h", 4.0, y + 15.0, &group.heading);
        y += ROW;
        for bar in &group.bars {
            draw(&mut svg, &axis, bar, y);
            y += ROW;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, axis: &Axis, bar: &Bar, y: f64) {
    text(svg, "l", 16.0, y + 15.0, &bar.label);
    let Some((median, p99)) = bar.value else {
        return text(svg, "l", LEFT, y + 15.0, &bar.shown);
    };
    let class = if bar.is_ours { "ours" } else { "other" };
    let (end, far) = (axis.at(median), axis.at(p99));
    let (width, middle) = (end - LEFT, y + ROW / 2.0);
    let _infallible = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\"/>\n\
         <path class=\"p\" fill=\"none\" d=\"M{end:.1} {middle:.1}H{far:.1}m0 -5v10\"/>",
        y + 4.0
    );
    text(svg, "l", far.max(end) + 6.0, y + 15.0, &bar.shown);
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = escaped(words);
    let _infallible = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// From the smallest to the largest number.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = (f64, f64)>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for (median, p99) in values {
            low = low.min(median);
            high = high.max(median).max(p99);
        }
        match scale {
            Scale::Linear => Self {
                scale,
                low: 0.0,
                high,
            },
            // The smallest bar is half a decade long, so that it can be seen.
            Scale::Logarithmic => Self {
                scale,
                low: (low.max(1e-9) / 3.0).log10(),
                high: high.max(1e-9).log10(),
            },
        }
    }

    fn at(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(1e-9).log10(),
        };
        let length = self.high - self.low;
        let share = if length > 0.0 {
            (value - self.low) / length
        } else {
            0.0
        };
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_ends_at_its_median_and_its_line_at_the_p99() {
        let axis = Axis::new(Scale::Linear, [(1.0, 4.0)].into_iter());
        assert_eq!((axis.at(0.0), axis.at(4.0)), (LEFT, WIDTH - RIGHT));
        let axis = Axis::new(Scale::Logarithmic, [(3.0, 10.0), (0.3, 1.0)].into_iter());
        let steps = [0.1, 1.0, 10.0].map(|value| axis.at(value));
        assert!(
            (steps[1] - steps[0] - (steps[2] - steps[1])).abs() < 1e-6,
            "{steps:?}"
        );
    }

    #[test]
    fn nothing_that_is_measured_breaks_the_picture() {
        let bar = |value| Bar {
            label: "<&>".to_owned(),
            is_ours: false,
            value,
            shown: "unknown".to_owned(),
        };
        let bars = vec![bar(None), bar(Some((0.0, 0.0)))];
        let group = Group {
            heading: "\"a\"".to_owned(),
            bars,
        };
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = super::bars("a & b", scale, std::slice::from_ref(&group));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(
                svg.contains("&lt;&amp;&gt;") && svg.contains("a &amp; b"),
                "{svg}"
            );
            assert_eq!(svg.matches("<rect").count(), 1);
        }
    }
}
