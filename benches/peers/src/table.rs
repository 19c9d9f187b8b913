//! Tables in plain text and in Markdown, and medians.

use std::fmt;

/// Columns of text. The first and the last are left-aligned, the others right-aligned.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    pub(crate) fn add<const N: usize>(&mut self, row: [String; N]) {
        debug_assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row.into());
    }

    fn width(&self, column: usize) -> usize {
        let widths = self.rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.rows[0].len() - 1;
        for row in &self.rows {
            let mut line = String::new();
            for (column, text) in row.iter().enumerate() {
                let width = self.width(column);
                line += &match column {
                    0 => format!("  {text:<width$}"),
                    column if column == last => format!("  {text}"),
                    _ => format!("  {text:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A Markdown table, for a README.
#[derive(Debug)]
pub(crate) struct Markdown {
    columns: usize,
    text: String,
}

impl Markdown {
    /// A table with the heads of its columns; `corner` is the head of the first.
    pub(crate) fn new(corner: &str, heads: impl IntoIterator<Item = String>) -> Self {
        let mut table = Self { columns: 1, text: format!("| {corner} |") };
        for head in heads {
            table.columns += 1;
            table.text += &format!(" {head} |");
        }
        table.text += &format!("\n|{}\n", "---|".repeat(table.columns));
        table
    }

    /// Adds a row. A missing value becomes a dash.
    pub(crate) fn add(&mut self, head: &str, cells: impl IntoIterator<Item = Option<String>>) {
        self.text += &format!("| {head} |");
        for cell in cells {
            self.text += &format!(" {} |", cell.as_deref().unwrap_or("-"));
        }
        self.text.push('\n');
    }
}

impl fmt::Display for Markdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The median of `values`.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// Formats a number with about three significant digits, and spaces between thousands.
pub(crate) fn number(value: f64) -> String {
    let text = match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => return format!("{value:.3}"),
    };
    let (whole, fraction) =
        text.split_once('.').map_or((&*text, ""), |(whole, _)| (whole, &text[whole.len()..]));
    let mut spaced = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            spaced.push(' ');
        }
        spaced.push(digit);
    }
    spaced + fraction
}

/// Formats a multiple: two decimals below ten, none above.
pub(crate) fn ratio(value: f64) -> String {
    if value < 9.995 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, text) in [
            (1_234_567.8, "1 234 568"),
            (999.4, "999"),
            (42.42, "42.4"),
            (1.0, "1.00"),
            (0.1524, "0.152"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_markdown_table_has_a_dash_for_a_missing_value() {
        let mut table = Markdown::new("server", ["one".to_owned(), "two".to_owned()]);
        table.add("a", [Some(ratio(1.052)), None]);
        table.add("b", [Some(ratio(12.3)), Some(ratio(9.999))]);
        let text = "| server | one | two |\n|---|---|---|\n| a | 1.05 | - |\n| b | 12 | 10 |\n";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["server", "messages/s", ""]);
        table.add(["a".to_owned(), "10".to_owned(), "note".to_owned()]);
        assert_eq!(table.to_string(), "  server  messages/s\n  a               10  note\n");
    }
}
