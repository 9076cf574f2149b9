//! Small panels of bars over the rounds (one concept each) and heat tables of whole profiles.

use maud::{Markup, html};

use super::chart::{Shape, linear_ticks, n, outline, whisker};
use super::format;
use super::view::Bar;

/// One concept's effect on one class, with the score beneath, round by round.
pub(crate) struct Panel<'a> {
    /// The concept.
    pub(crate) concept: &'a str,
    /// The class.
    pub(crate) class: &'a str,
    /// One bar a round.
    pub(crate) bars: &'a [Bar],
    /// Largest magnitude of any effect, shared by panels that are to be compared.
    pub(crate) reach: f64,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 214.0;
const LEFT: f64 = 38.0;
const EFFECT: (f64, f64) = (24.0, 118.0);
/// Baseline of the marks of significance.
const MARKS: f64 = 130.0;
const SCORE: (f64, f64) = (152.0, 190.0);

impl Panel<'_> {
    /// The drawing.
    pub(crate) fn svg(&self) -> Markup {
        let count = self.bars.len().max(1) as f64;
        let slot = (WIDTH - LEFT - 8.0) / count;
        let middle = |index: usize| LEFT + slot * (index as f64 + 0.5);
        let effect_y = |value: f64| {
            let (top, bottom) = EFFECT;
            (top + bottom) / 2.0 - value / self.reach * (bottom - top) / 2.0
        };
        let score_y = |value: f64| SCORE.1 - value * (SCORE.1 - SCORE.0);
        let zero = effect_y(0.0);
        let bar_width = (slot * 0.62).min(18.0);
        let every = (self.bars.len() as f64 / 10.0).ceil().max(1.0) as usize;
        html! {
            svg.chart.panel xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", n(WIDTH), n(HEIGHT)))
                role="img" aria-label=(self.alt()) {
                text.panel-title x="4" y="14" { (self.concept) }
                // A long name takes the note's place; the caption says it too.
                @if self.concept.chars().count() <= 20 {
                    text.tick x=(n(WIDTH - 8.0)) y="14" text-anchor="end" { "effect, in pooled SDs" }
                }
                @for (tick, label) in linear_ticks(-self.reach, self.reach, 4) {
                    line.grid x1=(n(LEFT)) x2=(n(WIDTH - 8.0)) y1=(n(effect_y(tick))) y2=(n(effect_y(tick))) {}
                    text.tick x=(n(LEFT - 5.0)) y=(n(effect_y(tick) + 4.0)) text-anchor="end" { (label) }
                }
                @for (index, bar) in self.bars.iter().enumerate() {
                    g.(bar_class(bar)) {
                        title { (bar_title(bar)) }
                        @if let Some(effect) = &bar.effect {
                            @let height = (effect_y(effect.mean) - zero).abs().max(0.75);
                            rect.bar x=(n(middle(index) - bar_width / 2.0)) width=(n(bar_width))
                                y=(n(effect_y(effect.mean).min(zero))) height=(n(height)) {}
                        }
                        @if let Some(range) = bar.effect_range {
                            path.whisker d=(whisker(middle(index), effect_y(range.low.max(-1.05 * self.reach)),
                                effect_y(range.high.min(1.05 * self.reach)))) {}
                        }
                        @if bar.significant > 0 {
                            circle.(if bar.significant == bar.replicates { "always" } else { "sometimes" })
                                cx=(n(middle(index))) cy=(n(MARKS)) r=(n((slot / 4.0).min(2.6))) {}
                        }
                    }
                }
                line.axis x1=(n(LEFT)) x2=(n(WIDTH - 8.0)) y1=(n(zero)) y2=(n(zero)) {}
                text.tick x=(n(WIDTH - 8.0)) y=(n(SCORE.0 - 5.0)) text-anchor="end" { "TCAV score" }
                @for (tick, label) in [(0.0, "0"), (0.5, "½"), (1.0, "1")] {
                    line.grid x1=(n(LEFT)) x2=(n(WIDTH - 8.0)) y1=(n(score_y(tick))) y2=(n(score_y(tick))) {}
                    text.tick x=(n(LEFT - 5.0)) y=(n(score_y(tick) + 4.0)) text-anchor="end" { (label) }
                }
                @for (index, bar) in self.bars.iter().enumerate() {
                    g.score {
                        @if let Some(range) = bar.score_range {
                            path.whisker d=(whisker(middle(index), score_y(range.low), score_y(range.high))) {}
                        }
                        @if let Some(score) = &bar.score {
                            path.mark d=(outline(Shape::Diamond, middle(index), score_y(score.mean))) {
                                title { "round " (bar.round) ": score " (format::number(score.mean)) }
                            }
                        }
                    }
                    @if index % every == 0 {
                        text.tick x=(n(middle(index))) y=(n(HEIGHT - 10.0)) text-anchor="middle" { (bar.round) }
                    }
                }
            }
        }
    }

    fn alt(&self) -> String {
        let part = |bar: Option<&Bar>| {
            bar.and_then(|bar| Some(format!("round {} {}", bar.round, format::number(bar.effect.as_ref()?.mean))))
                .unwrap_or_else(|| "no effect".to_owned())
        };
        let significant = self.bars.iter().filter(|bar| bar.significant == bar.replicates).count();
        format!(
            "Effect of concept {} on class {}: {}, {}; significant in {significant} of {} rounds.",
            self.concept,
            self.class,
            part(self.bars.first()),
            part(self.bars.last()),
            self.bars.len()
        )
    }
}

fn bar_class(bar: &Bar) -> &'static str {
    if bar.decodable < bar.replicates {
        "undecodable"
    } else if bar.effect.as_ref().is_some_and(|effect| effect.mean < 0.0) {
        "negative"
    } else {
        "positive"
    }
}

fn bar_title(bar: &Bar) -> String {
    let effect = bar.effect.as_ref().map_or(format::ABSENT.to_owned(), |effect| format::number(effect.mean));
    let interval = bar.effect_range.map_or(String::new(), |range| format!(" ({})", format::range(range)));
    let undecodable = match bar.replicates - bar.decodable {
        0 => String::new(),
        missing => format!("; not decodable in {missing}"),
    };
    format!(
        "round {}, {} kept: effect {effect}{interval}; significant in {} of {} replicates{undecodable}",
        bar.round,
        format::density(bar.density),
        bar.significant,
        bar.replicates
    )
}

/// A heat table: rows of names, columns of rounds.
pub(crate) struct Heat {
    /// What a person who cannot see it should know.
    pub(crate) alt: String,
    /// Column labels.
    pub(crate) columns: Vec<String>,
    /// What the columns are.
    pub(crate) axis: &'static str,
    /// A group's name and its rows.
    pub(crate) groups: Vec<(String, Vec<HeatRow>)>,
    /// What the two ends of the colours mean, with their values.
    pub(crate) ends: [String; 2],
}

/// One row of a [`Heat`].
pub(crate) struct HeatRow {
    /// Its name.
    pub(crate) name: String,
    /// A cell for each column, where there is one.
    pub(crate) cells: Vec<Option<HeatCell>>,
}

/// One cell of a [`Heat`].
pub(crate) struct HeatCell {
    /// From −1 (one end of the colours) to 1 (the other).
    pub(crate) level: f64,
    /// Whether it is marked as significant.
    pub(crate) marked: bool,
    /// Shown on pointing at it.
    pub(crate) title: String,
}

/// Steps of the diverging colours, an odd number.
const STEPS: f64 = 11.0;

impl Heat {
    /// The drawing at both widths.
    pub(crate) fn both(&self) -> Markup {
        html! { (self.svg(920.0, "wide")) (self.svg(360.0, "narrow")) }
    }

    fn svg(&self, width: f64, class: &str) -> Markup {
        let longest =
            self.groups.iter().flat_map(|(_, rows)| rows).map(|row| row.name.chars().count()).max().unwrap_or(0);
        let left = (14.0 + 6.4 * longest.min(22) as f64).min(0.4 * width);
        let cell = ((width - left - 6.0) / self.columns.len().max(1) as f64).min(90.0);
        let row_height = 21.0;
        let group_height = |rows: usize| 24.0 + row_height * rows as f64;
        let mut tops = Vec::with_capacity(self.groups.len());
        let mut bottom = 40.0;
        for (_, rows) in &self.groups {
            tops.push(bottom);
            bottom += group_height(rows.len()) + 8.0;
        }
        let label = self.columns.iter().map(|label| super::chart::text_width(label)).fold(16.0, f64::max);
        let every = ((label + 8.0) / cell).ceil().max(1.0) as usize;
        html! {
            svg.chart.heat.(class) xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", n(width), n(bottom + 26.0)))
                role="img" aria-label=(self.alt) {
                text.tick x="4" y="14" { (self.ends[0]) }
                @let key = 10.0 + super::chart::text_width(&self.ends[0]);
                @for step in 0..STEPS as usize {
                    rect.(format!("d{step}")) x=(n(key + 9.0 * step as f64)) y="4" width="9" height="12" {}
                }
                text.tick x=(n(key + 9.0 * STEPS + 6.0)) y="14" { (self.ends[1]) }
                @for ((name, rows), &top) in self.groups.iter().zip(&tops) {
                    text.panel-title x="4" y=(n(top + 14.0)) { (name) }
                    @for (index, row) in rows.iter().enumerate() {
                        @let y = top + 22.0 + row_height * index as f64;
                        text.tick x=(n(left - 6.0)) y=(n(y + 14.0)) text-anchor="end" { (shortened(&row.name)) }
                        @for (column, entry) in row.cells.iter().enumerate() {
                            @if let Some(entry) = entry {
                                @let x = left + cell * column as f64;
                                @let step = level_step(entry.level);
                                rect.(format!("d{step}")) x=(n(x + 0.5)) y=(n(y + 0.5)) width=(n(cell - 1.0)) height=(n(row_height - 1.0)) {
                                    title { (entry.title) }
                                }
                                @if entry.marked {
                                    circle.(format!("on{step}")) cx=(n(x + cell / 2.0)) cy=(n(y + row_height / 2.0)) r="2.4" {}
                                }
                            }
                        }
                    }
                }
                @for (column, label) in self.columns.iter().enumerate().step_by(every) {
                    text.tick x=(n(left + cell * (column as f64 + 0.5))) y=(n(bottom + 6.0)) text-anchor="middle" { (label) }
                }
                text.axis-label x=(n(left + cell * self.columns.len() as f64 / 2.0)) y=(n(bottom + 22.0)) text-anchor="middle" { (self.axis) }
            }
        }
    }
}

fn level_step(level: f64) -> usize {
    let half = (STEPS - 1.0) / 2.0;
    (half + (level.clamp(-1.0, 1.0) * half).round()) as usize
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= 22 { name.to_owned() } else { name.chars().take(21).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_steps_are_symmetric() {
        assert_eq!([-2.0, -1.0, -0.05, 0.0, 0.05, 1.0].map(level_step), [0, 0, 5, 5, 5, 10]);
        assert_eq!(level_step(-0.3) + level_step(0.3), 10);
    }
}
