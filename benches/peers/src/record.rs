//! Writes measurements to CSV files, one row per run.

use std::borrow::Cow;
use std::fs::{self, File};

use crate::Result;
use crate::campaign::Campaign;
use crate::servers::Server;

/// The name of a column, and its value in a row.
pub(crate) type Column = (&'static str, Cow<'static, str>);

/// A column with a number or another value that is printed.
pub(crate) fn column(name: &'static str, value: impl ToString) -> Column {
    (name, value.to_string().into())
}

/// A file to which each run adds a row, so that earlier results survive a failure.
#[derive(Debug)]
pub(crate) struct Record {
    writer: csv::Writer<File>,
    has_heads: bool,
}

impl Record {
    /// Creates `name` in the campaign's folder, and replaces an older one.
    pub(crate) fn create(campaign: &Campaign<'_>, name: &str) -> Result<Self> {
        let path = campaign.folder.join(name);
        let failed = |error| format!("{}: {error}", path.display());
        fs::create_dir_all(&campaign.folder).map_err(failed)?;
        let writer = csv::Writer::from_writer(File::create(&path).map_err(failed)?);
        Ok(Self { writer, has_heads: false })
    }

    /// Adds a run of `server`. Every row of a file has the same columns.
    pub(crate) fn add(
        &mut self,
        campaign: &Campaign<'_>,
        server: &Server,
        round: u32,
        columns: impl IntoIterator<Item = Column>,
    ) -> Result<()> {
        let Campaign { machine, options, .. } = campaign;
        let mut row = vec![
            column("date", &machine.date),
            column("cpu", &machine.cpu),
            column("kernel", &machine.kernel),
            column("cores", machine.cores),
            column("server", &server.name),
            column("version", &server.version),
            column("workers", options.workers),
            column("round", round),
            column("seconds", options.seconds),
        ];
        row.extend(columns);
        if !self.has_heads {
            self.has_heads = true;
            self.writer.write_record(row.iter().map(|(name, _)| name))?;
        }
        self.writer.write_record(row.iter().map(|(_, value)| &**value))?;
        Ok(self.writer.flush()?)
    }
}
