//! Line charts as SVG whose colours are CSS classes, so that one drawing serves light, dark and print.

use maud::{Markup, html};

/// A chart of lines, bands and marks over two axes.
pub(crate) struct Chart<'a> {
    /// What a person who cannot see it should know.
    pub(crate) alt: String,
    /// Horizontal axis.
    pub(crate) x: Axis<'a>,
    /// Vertical axis.
    pub(crate) y: Axis<'a>,
    /// Below the horizontal axis.
    pub(crate) x_label: &'a str,
    /// Above the vertical axis.
    pub(crate) y_label: &'a str,
    /// Drawn in order.
    pub(crate) layers: Vec<Layer>,
    /// Name, class and shape of each line, for the legend.
    pub(crate) legend: Vec<(String, String, Shape)>,
}

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Axis<'a> {
    /// Evenly spaced, numbers as they are.
    Linear {
        /// Least value.
        low: f64,
        /// Greatest value.
        high: f64,
    },
    /// Shares as percent, evenly spaced.
    Percent {
        /// Least share.
        low: f64,
        /// Greatest share.
        high: f64,
    },
    /// Density: logarithmic, falling from dense (1) on the left to `low` on the right, as percent.
    Density {
        /// Least share.
        low: f64,
    },
    /// Names at 0, 1, 2, … from left to right, or from the bottom up.
    Names(&'a [String]),
}

/// The outline of a mark; lines differ by shape as well as by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// ●
    Circle,
    /// ■
    Square,
    /// ▲
    Triangle,
    /// ◆
    Diamond,
    /// No mark.
    None,
}

/// One thing drawn.
pub(crate) enum Layer {
    /// Filled between two heights at each x.
    Band {
        /// CSS class.
        class: String,
        /// x, low, high.
        points: Vec<(f64, f64, f64)>,
    },
    /// A polyline.
    Line {
        /// CSS class.
        class: String,
        /// x, y.
        points: Vec<(f64, f64)>,
    },
    /// Marks with whiskers.
    Marks {
        /// CSS class.
        class: String,
        /// Outline.
        shape: Shape,
        /// The marks.
        marks: Vec<Mark>,
    },
    /// A horizontal line.
    Rule {
        /// Height.
        y: f64,
        /// CSS class.
        class: &'static str,
    },
    /// A horizontal stripe.
    Zone {
        /// Lower edge.
        low: f64,
        /// Upper edge.
        high: f64,
        /// CSS class.
        class: &'static str,
    },
}

/// A marked point.
pub(crate) struct Mark {
    /// Horizontal place.
    pub(crate) x: f64,
    /// Vertical place.
    pub(crate) y: f64,
    /// Ends of its whisker.
    pub(crate) whisker: Option<(f64, f64)>,
    /// Shown on pointing at it.
    pub(crate) title: String,
}

/// How large, and when shown.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Width in user units; text is about 12 of them high.
    pub(crate) width: f64,
    /// Height.
    pub(crate) height: f64,
    /// CSS class that shows it on wide or narrow screens.
    pub(crate) class: &'static str,
}

/// For desktops and paper.
pub(crate) const WIDE: Size = Size { width: 920.0, height: 380.0, class: "wide" };
/// For phones.
pub(crate) const NARROW: Size = Size { width: 360.0, height: 300.0, class: "narrow" };
/// One drawing for all, where charts stand side by side.
pub(crate) const SMALL: Size = Size { width: 360.0, height: 300.0, class: "small" };

impl Axis<'_> {
    /// Evenly spaced from `low` to `high` with some air.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, percent: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let air = (0.06 * (high - low)).max(0.002);
        if percent {
            Axis::Percent { low: (low - air).max(0.0), high: (high + air).min(1.0 + air.min(0.004)) }
        } else {
            Axis::Linear { low: low - air, high: high + air }
        }
    }

    /// Density down to the least of `values`.
    pub(crate) fn density(values: impl IntoIterator<Item = f64>) -> Self {
        let low = values.into_iter().filter(|&value| value > 0.0).fold(1.0, f64::min);
        Axis::Density { low: low.min(0.8) * 0.9 }
    }

    /// Where `value` lies, 0 at the start and 1 at the end.
    fn place(self, value: f64) -> f64 {
        match self {
            Axis::Linear { low, high } | Axis::Percent { low, high } => (value - low) / (high - low),
            Axis::Density { low } => {
                let start = 1.03f64.ln();
                (start - value.max(1e-9).ln()) / (start - low.ln())
            }
            Axis::Names(names) => (value + 0.5) / names.len().max(1) as f64,
        }
    }

    /// Ticks with their labels.
    fn ticks(self, about: usize) -> Vec<(f64, String)> {
        match self {
            Axis::Linear { low, high } => linear_ticks(low, high, about),
            Axis::Percent { low, high } => linear_ticks(100.0 * low, 100.0 * high, about)
                .into_iter()
                .map(|(tick, label)| (tick / 100.0, format!("{label} %")))
                .collect(),
            Axis::Density { low } => {
                let full: &[f64] = &[100.0, 70.0, 50.0, 30.0, 20.0, 15.0, 10.0, 7.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1];
                let sparse: &[f64] = &[100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1];
                let inside =
                    |ticks: &[f64]| -> Vec<f64> { ticks.iter().copied().filter(|t| *t >= 100.0 * low).collect() };
                let chosen = if inside(full).len() <= about { inside(full) } else { inside(sparse) };
                chosen.into_iter().map(|tick| (tick / 100.0, format!("{tick} %"))).collect()
            }
            Axis::Names(names) => {
                let every = names.len().div_ceil(about.max(1)).max(1);
                (names.iter().enumerate().step_by(every)).map(|(at, name)| (at as f64, name.clone())).collect()
            }
        }
    }
}

/// Round numbers between `low` and `high`, about so many.
pub(crate) fn linear_ticks(low: f64, high: f64, about: usize) -> Vec<(f64, String)> {
    let raw = (high - low) / about.max(1) as f64;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|&s| s >= raw * 0.999).unwrap_or(raw);
    let scaled = step / magnitude;
    let fraction = usize::from((scaled - 2.5).abs() < 1e-9);
    let decimals =
        (-magnitude.log10().floor()).max(0.0) as usize + fraction - usize::from(scaled > 9.9 && magnitude < 1.0);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last)
        .map(|index| {
            let tick = index as f64 * step;
            (tick, super::format::decimal(tick, decimals))
        })
        .collect()
}

/// A coordinate with two decimals and no trailing zeros.
pub(crate) fn n(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `M x y L x y …`.
fn path(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (index, (x, y)) in points.into_iter().enumerate() {
        out += if index == 0 { "M" } else { "L" };
        out += &n(x);
        out.push(' ');
        out += &n(y);
    }
    out
}

/// A mark as a path around (x, y).
pub(crate) fn outline(shape: Shape, x: f64, y: f64) -> String {
    let corner = |dx: f64, dy: f64| (x + dx, y + dy);
    match shape {
        Shape::Circle => format!("M{} {}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0", n(x - 3.6), n(y)),
        Shape::Square => path([corner(-3.3, -3.3), corner(3.3, -3.3), corner(3.3, 3.3), corner(-3.3, 3.3)]) + "Z",
        Shape::Triangle => path([corner(0.0, -4.4), corner(4.2, 3.1), corner(-4.2, 3.1)]) + "Z",
        Shape::Diamond => path([corner(0.0, -4.6), corner(4.6, 0.0), corner(0.0, 4.6), corner(-4.6, 0.0)]) + "Z",
        Shape::None => String::new(),
    }
}

/// Width of a text at 12 units, about.
pub(crate) fn text_width(text: &str) -> f64 {
    6.4 * text.chars().count() as f64
}

impl Chart<'_> {
    /// The drawing at both sizes; the page shows the one that fits.
    pub(crate) fn both(&self) -> Markup {
        html! { (self.svg(WIDE)) (self.svg(NARROW)) }
    }

    /// The drawing at one size.
    pub(crate) fn svg(&self, size: Size) -> Markup {
        let legend = self.legend_rows(size.width);
        let legend_height = 18.0 * legend.len() as f64;
        let (left, right, bottom) = (52.0, size.width - 14.0, size.height + legend_height - 44.0);
        let top = 30.0 + legend_height;
        let x = |value: f64| left + self.x.place(value) * (right - left);
        let y = |value: f64| bottom - self.y.place(value).clamp(-0.02, 1.02) * (bottom - top);
        let height = size.height + legend_height;
        html! {
            svg.chart.(size.class) xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", n(size.width), n(height)))
                role="img" aria-label=(self.alt) {
                @for (row, entries) in legend.iter().enumerate() {
                    @for &(at, index) in entries {
                        @let (name, class, shape) = &self.legend[index];
                        @let baseline = 14.0 + 18.0 * row as f64;
                        g.(class) {
                            path.line d=(path([(at, baseline - 4.0), (at + 22.0, baseline - 4.0)])) {}
                            @if *shape != Shape::None { path.mark d=(outline(*shape, at + 11.0, baseline - 4.0)) {} }
                        }
                        text x=(n(at + 28.0)) y=(n(baseline)) { (name) }
                    }
                }
                text.axis-label x="6" y=(n(top - 12.0)) { (self.y_label) }
                @let rows = if let Axis::Names(names) = self.y { names.len() } else { 5 };
                @for (tick, label) in self.y.ticks(rows) {
                    line.grid x1=(n(left)) x2=(n(right)) y1=(n(y(tick))) y2=(n(y(tick))) {}
                    text.tick x=(n(left - 7.0)) y=(n(y(tick) + 4.0)) text-anchor="end" { (label) }
                }
                @for (tick, label) in self.x.ticks(if size.width > 500.0 { 12 } else { 6 }) {
                    line.tick-mark x1=(n(x(tick))) x2=(n(x(tick))) y1=(n(bottom)) y2=(n(bottom + 4.0)) {}
                    text.tick x=(n(x(tick))) y=(n(bottom + 18.0)) text-anchor="middle" { (label) }
                }
                line.axis x1=(n(left)) x2=(n(right)) y1=(n(bottom)) y2=(n(bottom)) {}
                text.axis-label x=(n((left + right) / 2.0)) y=(n(bottom + 36.0)) text-anchor="middle" { (self.x_label) }
                @for layer in &self.layers {
                    @match layer {
                        Layer::Band { class, points } => {
                            @let upper = points.iter().map(|&(at, _, high)| (x(at), y(high)));
                            @let lower = points.iter().rev().map(|&(at, low, _)| (x(at), y(low)));
                            path.band.(class) d=(path(upper.chain(lower)) + "Z") {}
                        }
                        Layer::Line { class, points } => {
                            path.line.(class) d=(path(points.iter().map(|&(at, value)| (x(at), y(value))))) {}
                        }
                        Layer::Marks { class, shape, marks } => g.(class) {
                            @for mark in marks {
                                @if let Some((low, high)) = mark.whisker {
                                    path.whisker d=(whisker(x(mark.x), y(low), y(high))) {}
                                }
                                path.mark d=(outline(*shape, x(mark.x), y(mark.y))) { title { (mark.title) } }
                            }
                        },
                        Layer::Rule { y: at, class } => {
                            line.line.(class) x1=(n(left)) x2=(n(right)) y1=(n(y(*at))) y2=(n(y(*at))) {}
                        }
                        Layer::Zone { low, high, class } => {
                            rect.(class) x=(n(left)) width=(n(right - left)) y=(n(y(*high))) height=(n(y(*low) - y(*high))) {}
                        }
                    }
                }
            }
        }
    }

    /// Legend entries by row, as (x, index).
    fn legend_rows(&self, width: f64) -> Vec<Vec<(f64, usize)>> {
        let mut rows: Vec<Vec<(f64, usize)>> = Vec::new();
        let mut at = f64::INFINITY;
        for (index, (name, _, _)) in self.legend.iter().enumerate() {
            let needed = 46.0 + text_width(name);
            if at + needed > width {
                rows.push(Vec::new());
                at = 6.0;
            }
            if let Some(row) = rows.last_mut() {
                row.push((at, index));
            }
            at += needed;
        }
        rows
    }
}

/// A vertical line with short ends.
pub(crate) fn whisker(x: f64, low: f64, high: f64) -> String {
    let bar = |y: f64| path([(x - 2.5, y), (x + 2.5, y)]);
    bar(low) + &path([(x, low), (x, high)]) + &bar(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |low, high| linear_ticks(low, high, 5).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(96.3, 98.7), ["96.5", "97.0", "97.5", "98.0", "98.5"]);
        assert_eq!(labels(-1.0, 1.0), ["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels(0.0, 40.0), ["0", "10", "20", "30", "40"]);
        assert_eq!(labels(97.0, 98.0), ["97.0", "97.2", "97.4", "97.6", "97.8", "98.0"]);
        assert_eq!(labels(0.0, 10.0), ["0.0", "2.0", "4.0", "6.0", "8.0", "10.0"].map(|s| s.trim_end_matches(".0")));
    }

    #[test]
    fn density_falls_from_left_to_right_on_a_log_scale() {
        let axis = Axis::density([1.0, 0.1]);
        assert!(axis.place(1.0) < axis.place(0.5) && axis.place(0.5) < axis.place(0.1));
        let step = |a, b| axis.place(b) - axis.place(a);
        assert!((step(1.0, 0.5) - step(0.5, 0.25)).abs() < 1e-12);
        assert!(axis.place(0.1) < 1.0);
    }
}
