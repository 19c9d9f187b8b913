//! Writes the intervals of a run to files, for tools that draw them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::recorder::Interval;
use crate::report::Latencies;

/// The files of --hdr and --csv.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    hdr: Option<BufWriter<File>>,
    csv: Option<BufWriter<File>>,
}

impl Exports {
    /// Creates the files.
    pub(crate) fn create(hdr: Option<&Path>, csv: Option<&Path>) -> io::Result<Self> {
        let mut exports = Self { hdr: create(hdr)?, csv: create(csv)? };
        if let Some(hdr) = &mut exports.hdr {
            IntervalLogWriterBuilder::new()
                .add_comment("[Histogram log format version 1.3]")
                .add_comment("Latencies in nanoseconds")
                .with_start_time(SystemTime::now())
                .begin_log_with(hdr, &mut V2DeflateSerializer::new())?;
        }
        if let Some(csv) = &mut exports.csv {
            writeln!(
                csv,
                "second,messages,messages_per_s,megabytes_per_s,latency_p50_us,latency_p90_us,\
                 latency_p99_us,latency_p999_us,latency_max_us,latency_mean_us"
            )?;
        }
        Ok(exports)
    }

    /// Adds an interval of `length`, which began `from` after the start of the measured time.
    pub(crate) fn add(
        &mut self,
        interval: &Interval,
        from: Duration,
        length: Duration,
    ) -> io::Result<()> {
        if let Some(hdr) = &mut self.hdr {
            // A writer without comments and times writes no header.
            IntervalLogWriterBuilder::new()
                .begin_log_with(hdr, &mut V2DeflateSerializer::new())?
                .write_histogram(&interval.latencies_ns, from, length, None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        if let Some(csv) = &mut self.csv {
            let seconds = length.as_secs_f64().max(1e-9);
            let end = (from + length).as_secs_f64();
            let per_s = interval.messages as f64 / seconds;
            let megabytes = interval.message_bytes as f64 / seconds / 1e6;
            write!(csv, "{end:.3},{},{per_s:.1},{megabytes:.3}", interval.messages)?;
            let latencies = Latencies::new(&interval.latencies_ns);
            let quantiles = latencies.quantiles.iter().map(|(_, value)| *value);
            for value in quantiles.chain([latencies.mean]) {
                // An empty field is a missing value.
                write!(csv, ",{}", value.map_or_else(String::new, |value| format!("{value:.1}")))?;
            }
            writeln!(csv)?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        [&mut self.hdr, &mut self.csv].into_iter().flatten().try_for_each(Write::flush)
    }
}

fn create(path: Option<&Path>) -> io::Result<Option<BufWriter<File>>> {
    let Some(path) = path else { return Ok(None) };
    let named = |error| {
        io::Error::other(format!("cannot write {}: {error}; choose another file", path.display()))
    };
    File::create(path).map(|file| Some(BufWriter::new(file))).map_err(named)
}
