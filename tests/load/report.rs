//! The report for people, and the files for other tools.

use crate::support::programs::{server, terminate};
use crate::{freezing, load};
use std::sync::mpsc::channel;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

#[test]
fn the_report_names_the_latencies_the_check_and_the_limit() {
    let (server, address) = server("--workers 1");
    let ended = load(address, "--connections 2 --count 100");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let text = ended.stdout.join("\n");
    for part in ["depth 1: 100 messages in ", "0.0 MB in all", "latency us  p50 ", "  mean "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for part in [" us  ", "failures    none", "every echo was correct", "limit       "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(" % ####"), "{text}");
    terminate(server);
    let address = freezing(1, channel().0);
    let ended = load(address, "--connections 1 --rate 100 --duration 0.5");
    let text = ended.stdout.join("\n");
    assert!(text.contains("limit       the server: it did not keep up with --rate"), "{text}");
    assert!(text.contains("unanswered  1 messages"), "{text}");
}

#[test]
fn the_seconds_of_a_run_are_written_to_files() {
    let folder = std::env::temp_dir().join(format!("ws-reactor-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (hdr, csv) = (folder.join("load.hdr"), folder.join("load.csv"));
    let (server, address) = server("--workers 1");
    let files = format!("--hdr {} --csv {}", hdr.display(), csv.display());
    let ended = load(address, &format!("--connections 2 --rate 200 --duration 1.5 {files} --json"));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let messages = crate::number(&ended.stdout[0], "messages");
    let table = std::fs::read_to_string(&csv).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][..2], ["second", "messages"]);
    assert!(rows.len() >= 3, "two intervals: {table}");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    let sum: f64 = rows[1..].iter().map(|row| row[1].parse::<f64>().unwrap()).sum();
    assert_eq!(sum, messages, "{table}");
    let log = std::fs::read(&hdr).unwrap();
    let mut samples = 0;
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                interval.encoded_histogram(),
            );
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes.unwrap()[..]).unwrap();
            samples += histogram.len();
        }
    }
    assert_eq!(samples as f64, messages, "every latency is in the log");
    std::fs::remove_dir_all(&folder).unwrap();
    let ended = load(address, "--hdr /nonexistent/file");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr[0].contains("/nonexistent/file: No such file"), "{ended:?}");
    terminate(server);
}
