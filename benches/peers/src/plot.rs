//! The plots: one panel per cell, with one row per server.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::load::Figures;
use crate::outcome::{CellOutcome, Outcome, is_server_the_limit};
use crate::servers::{BUILT_IN, OURS};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Messages per second as bars.
pub(crate) fn throughput(cells: &[CellOutcome<Figures>]) -> Result<String> {
    let legend = "messages per second, more is better; * the server was not the limit";
    bars(cells, "Echo throughput", legend, |figures| {
        let is_limit = is_server_the_limit(figures.server_cores, figures.workers);
        (figures.messages_per_s, if is_limit { "" } else { " *" })
    })
}

/// A bar for each server, with its value and a mark. Each panel has its own scale.
pub(crate) fn bars<F>(
    cells: &[CellOutcome<F>],
    title: &str,
    legend: &str,
    value: impl Fn(&F) -> (f64, &'static str),
) -> Result<String> {
    draw(cells, title, legend, |area, outcomes| {
        let most = outcomes.iter().map(|outcome| value(&outcome.figures).0).fold(1e-9, f64::max);
        for (row, Outcome { server, figures }) in outcomes.iter().enumerate() {
            let (value, mark) = value(figures);
            let end = LABELS_WIDTH + ((value / most * f64::from(BAR_WIDTH)) as i32).max(1);
            let (top, bottom) = (row_y(row) - 7, row_y(row) + 7);
            let bar = [(LABELS_WIDTH, top), (end, bottom)];
            area.draw(&Rectangle::new(bar, color(server).filled()))?;
            text(area, &(short(value) + mark), (end + 6, row_y(row)), 15, HPos::Left, INK)?;
        }
        Ok(())
    })
}

/// Percentiles of the round trip. All panels share one logarithmic scale.
pub(crate) fn latency(cells: &[CellOutcome<Figures>], title: &str) -> Result<String> {
    let all = || cells.iter().flat_map(|cell| &cell.outcomes).map(|outcome| outcome.figures);
    let least = all().map(|figures| figures.latency_p50_us).fold(f64::INFINITY, f64::min);
    let most = all().map(|figures| figures.latency_p999_us).fold(1.0, f64::max);
    let (from, to) = (least.max(1.0).log10().floor(), most.log10().ceil());
    let x = |us: f64| {
        let share = (us.max(1.0).log10() - from) / (to - from).max(1.0);
        LABELS_WIDTH + (share * f64::from(BAR_WIDTH + VALUE_WIDTH)) as i32
    };
    let legend = "round trip: dot p50, diamond p99, bar p99.9; logarithmic, less is better";
    draw(cells, title, legend, |area, outcomes| {
        let bottom = row_y(outcomes.len() - 1) + 12;
        for decade in from as i32..=to as i32 {
            let us = 10_f64.powi(decade);
            area.draw(&PathElement::new([(x(us), TITLE_HEIGHT), (x(us), bottom)], FAINT))?;
            text(area, &duration(us), (x(us), bottom + 8), 13, HPos::Center, GREY)?;
        }
        for (row, Outcome { server, figures }) in outcomes.iter().enumerate() {
            let Figures { latency_p50_us, latency_p99_us, latency_p999_us, .. } = *figures;
            let (y, color) = (row_y(row), color(server));
            let [p50, p99, p999] = [latency_p50_us, latency_p99_us, latency_p999_us].map(x);
            area.draw(&PathElement::new([(p50, y), (p999, y)], color.stroke_width(2)))?;
            area.draw(&PathElement::new([(p999, y - 6), (p999, y + 6)], color.stroke_width(2)))?;
            area.draw(&Circle::new((p50, y), 5, color.filled()))?;
            let diamond = [(p99 - 5, y), (p99, y - 5), (p99 + 5, y), (p99, y + 5)];
            area.draw(&Polygon::new(diamond, color))?;
        }
        Ok(())
    })
}

/// Draws titles and labels, and calls `panel` for the contents of each panel.
fn draw<F>(
    cells: &[CellOutcome<F>],
    title: &str,
    legend: &str,
    panel: impl Fn(&Area<'_>, &[Outcome<F>]) -> Result<()>,
) -> Result<String> {
    let columns = match cells.len() {
        4 => 2,
        cells => cells.clamp(1, COLUMNS_MAX),
    };
    let rows = cells.len().div_ceil(columns);
    let servers = cells.iter().map(|cell| cell.outcomes.len()).max().unwrap_or(0);
    let panel_height = row_y(servers) + 22;
    let width = columns as i32 * PANEL_WIDTH + 2 * MARGIN;
    let height = HEAD_HEIGHT + rows as i32 * panel_height + MARGIN;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width as u32, height as u32));
        let root = root.into_drawing_area();
        // A background keeps the plot readable on a dark page.
        root.fill(&WHITE)?;
        text(&root, title, (MARGIN, MARGIN + 10), 26, HPos::Left, INK)?;
        text(&root, legend, (MARGIN, MARGIN + 36), 16, HPos::Left, GREY)?;
        for (index, CellOutcome { title, outcomes }) in cells.iter().enumerate() {
            if outcomes.is_empty() {
                continue;
            }
            let left = MARGIN + (index % columns) as i32 * PANEL_WIDTH;
            let top = HEAD_HEIGHT + (index / columns) as i32 * panel_height;
            let area = root.clone().shrink((left, top), (PANEL_WIDTH, panel_height));
            labels(&area, title, outcomes)?;
            panel(&area, outcomes)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// Draws the cell's title and the names of the servers.
fn labels<F>(area: &Area<'_>, title: &str, outcomes: &[Outcome<F>]) -> Result<()> {
    text(area, title, (TITLE_LEFT, 10), 18, HPos::Left, INK)?;
    for (row, Outcome { server, .. }) in outcomes.iter().enumerate() {
        let ink = if server == OURS { color(server) } else { INK };
        text(area, server, (LABELS_WIDTH - 8, row_y(row)), 16, HPos::Right, ink)?;
    }
    Ok(())
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: u32,
    side: HPos,
    color: RGBColor,
) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(&color).pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text, at, style))?)
}

/// The middle of a row.
fn row_y(row: usize) -> i32 {
    TITLE_HEIGHT + 12 + row as i32 * ROW_HEIGHT
}

/// A server's colour, the same in every plot: by its place among the built-in servers. Those of
/// `--also` share one. The most important are distinct for colour-blind readers (Okabe and Ito
/// 2008).
fn color(server: &str) -> RGBColor {
    let place = BUILT_IN.iter().position(|built_in| built_in.name == server);
    place.and_then(|place| COLORS.get(place)).copied().unwrap_or(OTHER)
}

/// Formats `value` with three digits, more than the precision of the measurement.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = [1.0, 10.0, 100.0].iter().filter(|&&limit| value >= limit).count();
    format!("{value:.*}{unit}", 3_usize.saturating_sub(digits))
}

fn duration(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} us"),
    }
}

const COLORS: [RGBColor; 13] = [
    RGBColor(213, 94, 0),
    RGBColor(90, 90, 90),
    RGBColor(90, 90, 90),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(200, 160, 0),
    RGBColor(120, 94, 200),
    RGBColor(140, 190, 90),
    RGBColor(150, 110, 70),
    RGBColor(60, 170, 180),
];
const OTHER: RGBColor = RGBColor(170, 30, 90);
const INK: RGBColor = RGBColor(30, 30, 30);
const GREY: RGBColor = RGBColor(100, 100, 100);
const FAINT: RGBColor = RGBColor(225, 225, 225);

const COLUMNS_MAX: usize = 3;
const MARGIN: i32 = 20;
const HEAD_HEIGHT: i32 = 84;
const PANEL_WIDTH: i32 = 360;
/// Titles are longer than bars, so they start further left.
const TITLE_LEFT: i32 = 66;
const TITLE_HEIGHT: i32 = 26;
const ROW_HEIGHT: i32 = 22;
/// The names of the servers end left of this.
const LABELS_WIDTH: i32 = 136;
const BAR_WIDTH: i32 = 136;
/// Space for the number after a bar of full width.
const VALUE_WIDTH: i32 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short() {
        for (value, text) in
            [(4_626_720.0, "4.63 M"), (147_017.0, "147 k"), (12_345.0, "12.3 k"), (42.0, "42.0")]
        {
            assert_eq!(short(value), text);
        }
    }
}
