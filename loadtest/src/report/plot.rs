//! Line plots as SVG text, with colors that follow the page (light or dark).

use std::fmt::Write as _;

use crate::scenario::number;

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points: x and y.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// The title, above the plot.
    pub title: String,
    /// The name of the x axis.
    pub x_name: String,
    /// The name of the y axis.
    pub y_name: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// Vertical marks: x and text.
    pub marks: Vec<(f64, String)>,
    /// Labels of the x axis; without them, round numbers are chosen.
    pub x_ticks: Option<Vec<(f64, String)>>,
    /// Whether the y axis is logarithmic.
    pub logarithmic: bool,
}

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
/// Height of a row of the legend, under the plot.
const LEGEND_ROW: f64 = 20.0;
/// Wide enough for the longest name at the font size of narrow screens.
const LEGEND_COLUMN: f64 = 270.0;
/// Distinguishable on white and on black, also with most color vision deficiencies.
const COLORS: [&str; 8] =
    ["#3b7dd8", "#e07b39", "#3a9d5d", "#c2458f", "#8a6bd1", "#a8892c", "#4aa6b5", "#d1495b"];

impl Plot {
    /// The plot as an `<svg>` element.
    #[must_use]
    pub fn svg(&self) -> String {
        let scale = Frame::of(self);
        let columns = ((WIDTH - LEFT) / LEGEND_COLUMN).floor();
        #[expect(clippy::cast_precision_loss, reason = "some lines")]
        let rows = (self.lines.len() as f64 / columns).ceil();
        let height = HEIGHT + if self.lines.len() > 1 { rows * LEGEND_ROW + 4.0 } else { 0.0 };
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui,sans-serif" font-size="11" fill="currentColor" role="img"><title>{title}</title><text class="title" x="{LEFT}" y="16" font-size="13" font-weight="600">{title}</text>"#,
            title = escaped(&self.title),
        );
        self.axes(&scale, &mut svg);
        for (at, text) in &self.marks {
            let x = scale.x(*at);
            let _ = write!(
                svg,
                r#"<line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.1}" stroke="currentColor" stroke-opacity=".45" stroke-dasharray="3 3"/><text x="{:.1}" y="{:.1}" font-size="10" opacity=".75" transform="rotate(-90 {:.1} {:.1})" text-anchor="end">{}</text>"#,
                HEIGHT - BOTTOM,
                x - 3.0,
                TOP + 3.0,
                x - 3.0,
                TOP + 3.0,
                escaped(text)
            );
        }
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            let points: Vec<_> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y))).collect();
            let _ = write!(
                svg,
                r#"<polyline fill="none" stroke="{color}" stroke-width="1.6" stroke-linejoin="round" points="{}"/>"#,
                points.join(" ")
            );
        }
        if self.lines.len() > 1 {
            self.legend(columns, &mut svg);
        }
        svg + "</svg>"
    }

    fn axes(&self, scale: &Frame, svg: &mut String) {
        for (value, text) in scale.y_ticks() {
            let y = scale.y(value);
            let _ = write!(
                svg,
                r#"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="currentColor" stroke-opacity=".13"/><text x="{:.1}" y="{:.1}" text-anchor="end" opacity=".8">{text}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let ticks = self.x_ticks.clone().unwrap_or_else(|| linear_ticks(scale.x_range, 8));
        for (value, text) in ticks {
            let x = scale.x(value);
            let _ = write!(
                svg,
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle" opacity=".8">{text}</text>"#,
                HEIGHT - BOTTOM + 17.0
            );
        }
        let _ = write!(
            svg,
            r#"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="currentColor" stroke-opacity=".5"/><text x="{:.1}" y="{:.1}" text-anchor="middle" opacity=".8">{}</text><text x="12" y="{mid:.1}" text-anchor="middle" opacity=".8" transform="rotate(-90 12 {mid:.1})">{}</text>"#,
            WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - BOTTOM + 38.0,
            escaped(&self.x_name),
            escaped(&self.y_name),
            y = HEIGHT - BOTTOM,
            mid = (TOP + HEIGHT - BOTTOM) / 2.0,
        );
    }

    fn legend(&self, columns: f64, svg: &mut String) {
        let (mut column, mut y) = (0.0, HEIGHT + 6.0);
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            if column >= columns {
                (column, y) = (0.0, y + LEGEND_ROW);
            }
            let x = LEFT + column * LEGEND_COLUMN;
            let _ = write!(
                svg,
                r#"<rect x="{x:.1}" y="{:.1}" width="14" height="3" fill="{color}"/><text x="{:.1}" y="{:.1}">{}</text>"#,
                y - 5.0,
                x + 19.0,
                y,
                escaped(&line.name)
            );
            column += 1.0;
        }
    }
}

/// Maps values to coordinates.
struct Frame {
    x_range: (f64, f64),
    y_range: (f64, f64),
    logarithmic: bool,
}

impl Frame {
    fn of(plot: &Plot) -> Self {
        let points = || plot.lines.iter().flat_map(|line| &line.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values
                .filter(|value| value.is_finite())
                .fold(None, |range: Option<(f64, f64)>, value| {
                    Some(range.map_or((value, value), |(least, most)| (least.min(value), most.max(value))))
                })
                .unwrap_or((0.0, 1.0))
        };
        let mut x_range = range(&mut points().map(|(x, _)| *x));
        if x_range.1 <= x_range.0 {
            x_range.1 = x_range.0 + 1.0;
        }
        let (least, most) = range(&mut points().map(|(_, y)| *y).filter(|y| !plot.logarithmic || *y > 0.0));
        let y_range = if plot.logarithmic {
            let bottom = 10f64.powf(least.max(0.001).log10().floor());
            (bottom, 10f64.powf(most.max(bottom * 1.01).log10().ceil()))
        } else {
            (0.0, if most > 0.0 { most * 1.05 } else { 1.0 })
        };
        Self { x_range, y_range, logarithmic: plot.logarithmic }
    }

    fn x(&self, value: f64) -> f64 {
        let (least, most) = self.x_range;
        LEFT + (value.clamp(least, most) - least) / (most - least) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let (least, most) = self.y_range;
        let share = if self.logarithmic {
            (value.max(least).log10() - least.log10()) / (most.log10() - least.log10())
        } else {
            value / most
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn y_ticks(&self) -> Vec<(f64, String)> {
        if !self.logarithmic {
            return linear_ticks(self.y_range, 5);
        }
        let mut ticks = Vec::new();
        let mut at = self.y_range.0;
        while at <= self.y_range.1 * 1.001 {
            ticks.push((at, short(at)));
            at *= 10.0;
        }
        ticks
    }
}

/// About `count` round numbers in a range.
fn linear_ticks((least, most): (f64, f64), count: u32) -> Vec<(f64, String)> {
    let rough = (most - least) / f64::from(count);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let mut ticks = Vec::new();
    let mut at = (least / step).ceil() * step;
    while at <= most {
        ticks.push((at, short(at)));
        at += step;
    }
    ticks
}

fn short(value: f64) -> String {
    match value.abs() {
        millions if millions >= 1e6 => format!("{}M", number(round(value / 1e6))),
        thousands if thousands >= 1e4 => format!("{}k", number(round(value / 1e3))),
        _ => number(round(value)),
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Escapes text for HTML and SVG.
#[must_use]
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let texts: Vec<_> = linear_ticks((0.0, 52_000.0), 5).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["0", "20k", "40k"]);
    }

    #[test]
    fn a_plot_is_closed_and_escaped() {
        let line = Line { name: "a<b".into(), points: vec![(0.0, 1.0), (1.0, 100.0)] };
        let plot =
            Plot { title: "t".into(), lines: vec![line.clone(), line], logarithmic: true, ..Plot::default() };
        let svg = plot.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.contains("a&lt;b"));
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(!Plot::default().svg().contains("NaN"));
    }
}
