//! The workloads to measure: number of connections, message size, messages in flight on each.

use crate::Result;
use crate::record::{Column, column};

/// A workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) connections: u32,
    pub(crate) size: usize,
    pub(crate) depth: u32,
    /// Whether `--cells small` includes it.
    is_small: bool,
}

/// A workload that `--cells` selects by its name.
pub(crate) trait Named: Copy {
    fn name(&self) -> &'static str;
    /// Whether `--cells small` includes it.
    fn is_small(&self) -> bool;
}

impl Named for Cell {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_small(&self) -> bool {
        self.is_small
    }
}

impl Cell {
    /// The columns that describe it in a CSV file.
    pub(crate) fn columns(&self) -> [Column; 4] {
        [
            column("cell", self.name),
            column("connections", self.connections),
            column("size_bytes", self.size),
            column("depth", self.depth),
        ]
    }

    /// A readable description.
    pub(crate) fn title(&self) -> String {
        let size = size_title(self.size);
        let plural = if self.connections == 1 { "" } else { "s" };
        let title = format!("{} connection{plural}, {size}", self.connections);
        match self.depth {
            1 => title,
            depth => format!("{title}, {depth} in flight"),
        }
    }
}

/// A readable number of bytes.
pub(crate) fn size_title(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

/// The cells of `all` that the value of `--cells` selects.
pub(crate) fn select<C: Named>(text: &str, all: &[C]) -> Result<Vec<C>> {
    let find = |name: &str| {
        let known = || all.iter().map(C::name).collect::<Vec<_>>().join(", ");
        let found = all.iter().copied().find(|cell| cell.name() == name);
        found.ok_or_else(|| format!("{name} is not one of small, all, {}", known()).into())
    };
    match text {
        "all" => Ok(all.into()),
        "small" => Ok(all.iter().copied().filter(C::is_small).collect()),
        names => names.split(',').map(find).collect(),
    }
}

const fn cell(name: &'static str, connections: u32, size: usize, depth: u32) -> Cell {
    Cell { name, connections, size, depth, is_small: false }
}

const fn small(name: &'static str, connections: u32, size: usize, depth: u32) -> Cell {
    Cell { is_small: true, ..cell(name, connections, size, depth) }
}

/// A single client, which measures pure latency.
pub(crate) const LATENCY: Cell = cell("1c-32B-d1", 1, 32, 1);

pub(crate) const CELLS: &[Cell] = &[
    LATENCY,
    small("64c-32B-d1", 64, 32, 1),
    cell("1000c-32B-d1", 1000, 32, 1),
    small("64c-32B-d32", 64, 32, 32),
    small("64c-1K-d1", 64, 1 << 10, 1),
    cell("64c-1K-d16", 64, 1 << 10, 16),
    cell("64c-16K-d1", 64, 16 << 10, 1),
    small("16c-64K-d4", 16, 64 << 10, 4),
    cell("4c-1M-d2", 4, 1 << 20, 2),
    // The shape of HttpArena's WebSocket test.
    cell("512c-5B-d1", 512, 5, 1),
    cell("4096c-5B-d1", 4096, 5, 1),
];

/// Cells for round trips at a fixed rate. Their depth limits only the run that finds the rate.
pub(crate) const FIXED_RATE: &[Cell] =
    &[small("64c-32B-d1", 64, 32, 1), cell("64c-16K-d1", 64, 16 << 10, 1)];

/// Many small echoes, and the large messages beside them.
pub(crate) const MIXED_SMALL: Cell = cell("63c-32B-d1", 63, 32, 1);
pub(crate) const MIXED_LARGE: Cell = cell("1c-1M-d2", 1, 1 << 20, 2);

/// Part of a cell's name.
#[cfg(test)]
pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{}M", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{}K", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_the_workloads() {
        for Cell { name, connections, size, depth, .. } in
            CELLS.iter().chain(FIXED_RATE).chain([&MIXED_SMALL, &MIXED_LARGE])
        {
            assert_eq!(*name, format!("{connections}c-{}-d{depth}", size_name(*size)));
        }
    }

    #[test]
    fn cells_are_selected_by_name() {
        let names = |text: &str| {
            let cells = select(text, CELLS).ok()?;
            Some(cells.iter().map(|cell| cell.name).collect::<Vec<_>>())
        };
        assert_eq!(names("all").map(|names| names.len()), Some(CELLS.len()));
        assert_eq!(names("small").map(|names| names.len()), Some(4));
        assert_eq!(names("4c-1M-d2,1c-32B-d1"), Some(vec!["4c-1M-d2", "1c-32B-d1"]));
        assert_eq!(names("64c"), None);
    }
}
