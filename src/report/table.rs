//! One table, three renderings: HTML that sorts, Markdown and CSV.

use maud::{Markup, html};

use super::format;

/// A table with named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// What it shows, in one line.
    pub(crate) caption: String,
    /// Column names.
    pub(crate) columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One cell: text for people and, where it is a number, its value for sorting and CSV.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// What is shown.
    pub(crate) text: String,
    /// The exact number behind it.
    pub(crate) value: Option<f64>,
}

impl Cell {
    /// Plain text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None }
    }

    /// A number and how it is shown.
    pub(crate) fn shown(value: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), value: value.is_finite().then_some(value) }
    }

    /// A number, three digits shown.
    pub(crate) fn number(value: f64) -> Self {
        Self::shown(value, format::number(value))
    }

    /// A count.
    pub(crate) fn count(value: usize) -> Self {
        Self::shown(value as f64, value.to_string())
    }

    /// A share as percent.
    pub(crate) fn percent(share: f64, decimals: usize) -> Self {
        Self::shown(share, format::percent(share, decimals))
    }

    /// A number or a dash.
    pub(crate) fn maybe(value: Option<f64>) -> Self {
        value.map_or_else(Self::absent, Self::number)
    }

    /// A p-value.
    pub(crate) fn p(value: f64) -> Self {
        Self::shown(value, format::p_value(value))
    }

    /// Nothing.
    pub(crate) fn absent() -> Self {
        Self::text(format::ABSENT)
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Whether a column holds numbers.
    fn numeric(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row[column].value.is_some())
    }

    /// HTML; the page's script makes its columns sortable and reads its CSV off `data-v`.
    pub(crate) fn html(&self) -> Markup {
        let numeric: Vec<bool> = (0..self.columns.len()).map(|column| self.numeric(column)).collect();
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.caption) {
                table.sortable {
                    caption { (self.caption) }
                    thead { tr { @for (name, &numeric) in self.columns.iter().zip(&numeric) { th.n[numeric] scope="col" { (name) } } } }
                    tbody {
                        @for row in &self.rows {
                            tr { @for (cell, &numeric) in row.iter().zip(&numeric) {
                                td.n[numeric] data-v=[cell.value] { (cell.text) }
                            } }
                        }
                    }
                }
            }
        }
    }

    /// GitHub-flavoured Markdown, without the caption.
    pub(crate) fn markdown(&self) -> String {
        let escape = |text: &str| {
            let mut out = String::with_capacity(text.len());
            for character in text.chars() {
                match character {
                    '\n' | '\r' => out.push(' '),
                    '<' => out.push_str("&lt;"),
                    '|' | '\\' | '`' | '*' | '_' | '[' | ']' => out.extend(['\\', character]),
                    _ => out.push(character),
                }
            }
            out
        };
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(|name| escape(name)).collect());
        let rule = (0..self.columns.len()).map(|column| if self.numeric(column) { "---:" } else { "---" }.to_owned());
        out += &line(rule.collect());
        for row in &self.rows {
            out += &line(row.iter().map(|cell| escape(&cell.text)).collect());
        }
        out
    }

    /// CSV (RFC 4180 with `\n`): exact numbers, not the rounded ones.
    pub(crate) fn csv(&self) -> String {
        let mut out = String::new();
        let mut line = |cells: Vec<String>| {
            out += &cells.join(",");
            out.push('\n');
        };
        line(self.columns.iter().map(|name| csv_field(name)).collect());
        for row in &self.rows {
            let cells = row.iter().map(|cell| match cell.value {
                Some(value) => value.to_string(),
                None if cell.text == format::ABSENT => String::new(),
                None => csv_field(&cell.text),
            });
            line(cells.collect());
        }
        out
    }
}

/// One CSV field: quoted where it must be, and disarmed where a spreadsheet would run it as a formula.
fn csv_field(text: &str) -> String {
    let armed = text.starts_with(['=', '+', '-', '@', '\t']);
    let text = if armed { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_cannot_break_a_table() {
        let mut table = Table::new("t", &["name", "x"]);
        table.rows.push(vec![Cell::text("<b>|a\n`"), Cell::shown(0.5, "50 %")]);
        table.rows.push(vec![Cell::text("=1+1,\"q\""), Cell::absent()]);
        assert_eq!(table.markdown(), "| name | x |\n| --- | ---: |\n| &lt;b>\\|a \\` | 50 % |\n| =1+1,\"q\" | – |\n");
        assert_eq!(table.csv(), "name,x\n\"<b>|a\n`\",0.5\n\"'=1+1,\"\"q\"\"\",\n");
        let html = table.html().into_string();
        assert!(html.contains("&lt;b&gt;|a"), "{html}");
    }
}
