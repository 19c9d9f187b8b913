//! The workloads to measure: number of connections, message size, messages in flight on each.

use std::sync::Arc;

/// The cells that `--cells` selects.
pub(crate) type Cells = Arc<[Cell]>;

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

impl Cell {
    /// A readable description.
    pub(crate) fn title(&self) -> String {
        let size = match self.size {
            bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        let title = format!("{} connection{plural}, {size}", self.connections);
        match self.depth {
            1 => title,
            depth => format!("{title}, {depth} in flight"),
        }
    }
}

/// Parses the value of `--cells`.
pub(crate) fn parse(text: &str) -> Result<Cells, String> {
    let find = |name| {
        let known = || CELLS.map(|cell| cell.name).join(", ");
        let found = CELLS.into_iter().find(|cell| cell.name == name);
        found.ok_or_else(|| format!("{name} is not one of small, all, {}", known()))
    };
    match text {
        "all" => Ok(CELLS.into()),
        "small" => Ok(CELLS.into_iter().filter(|cell| cell.is_small).collect()),
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

const CELLS: [Cell; 9] = [
    LATENCY,
    small("64c-32B-d1", 64, 32, 1),
    cell("1000c-32B-d1", 1000, 32, 1),
    small("64c-32B-d32", 64, 32, 32),
    small("64c-1K-d1", 64, 1 << 10, 1),
    cell("64c-1K-d16", 64, 1 << 10, 16),
    cell("64c-16K-d1", 64, 16 << 10, 1),
    small("16c-64K-d4", 16, 64 << 10, 4),
    cell("4c-1M-d2", 4, 1 << 20, 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_the_workloads() {
        for Cell { name, connections, size, depth, .. } in CELLS {
            let size = match size {
                bytes if bytes >= 1 << 20 => format!("{}M", bytes >> 20),
                bytes if bytes >= 1 << 10 => format!("{}K", bytes >> 10),
                bytes => format!("{bytes}B"),
            };
            assert_eq!(name, format!("{connections}c-{size}-d{depth}"));
        }
    }

    #[test]
    fn cells_are_selected_by_name() {
        assert_eq!(parse("all").map(|cells| cells.len()), Ok(9));
        assert_eq!(parse("small").map(|cells| cells.len()), Ok(4));
        let names = |cells: Cells| cells.iter().map(|cell| cell.name).collect::<Vec<_>>();
        assert_eq!(parse("4c-1M-d2,1c-32B-d1").map(names), Ok(vec!["4c-1M-d2", "1c-32B-d1"]));
        assert!(parse("64c").is_err());
    }
}
