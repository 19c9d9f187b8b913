//! Memory of an idle connection, and of our server while it echoes a message much larger than the
//! memory it may use.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::client::{Client, MASK, masked};
use crate::machine;
use crate::process::Running;
use crate::record::{Record, column};
use crate::servers::{OURS, Server, Task};
use crate::table::{Table, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let campaign = Campaign::prepare(options, Task::Echo)?;
    idle(&campaign)?;
    match campaign.servers.iter().find(|server| server.name == OURS) {
        Some(ours) => large_message(ours, &campaign),
        None => Ok(()),
    }
}

/// Measures and prints the memory of idle connections.
pub(crate) fn idle(campaign: &Campaign<'_>) -> Result<()> {
    let (descriptors, _) = rlimit::Resource::NOFILE.get()?;
    let available = descriptors.saturating_sub(DESCRIPTORS_KEPT) as u32;
    let connections = campaign.options.idle.min(available);
    let mut record = Record::create(campaign, "memory.csv")?;
    let mut table = Table::new(&["server", "bytes", "after an echo", ""]);
    for server in &campaign.servers {
        match idle_bytes(server, connections, campaign) {
            Ok([fresh, used]) => {
                let columns = [
                    column("connections", connections),
                    column("idle_bytes_per_connection", fresh),
                    column("idle_bytes_per_connection_after_an_echo", used),
                ];
                record.add(campaign, server, 1, columns)?;
                table.add([server.name.clone(), number(fresh), number(used), String::new()]);
            }
            Err(error) => eprintln!("{}: {error}", server.name),
        }
    }
    print!("anonymous memory of an idle connection ({connections} connections)\n{table}");
    Ok(())
}

/// Bytes per connection of `server` with `connections`: once upgraded, and after one echo on each.
fn idle_bytes(server: &Server, connections: u32, campaign: &Campaign<'_>) -> Result<[f64; 2]> {
    let running = Running::start(server, campaign.options.workers, &campaign.cpus)?;
    // The first connection makes the server load and allocate shared data, so do not count it.
    Client::connect(running.address, 0)?.echo(TEXT)?;
    let before = machine::anonymous_bytes(running.pid())? as f64;
    let per_connection = || -> Result<f64> {
        Ok((machine::anonymous_bytes(running.pid())? as f64 - before) / f64::from(connections))
    };
    let dial = |index| Client::connect(running.address, index);
    let mut clients = (0..connections).map(dial).collect::<io::Result<Vec<_>>>()?;
    let fresh = per_connection()?;
    for client in &mut clients {
        client.echo(TEXT)?;
    }
    Ok([fresh, per_connection()?])
}

/// Echoes one binary message of 64 MiB, and prints how much the server grew meanwhile.
fn large_message(server: &Server, campaign: &Campaign<'_>) -> Result<()> {
    let running = Running::start(server, campaign.options.workers, &campaign.cpus)?;
    let pid = running.pid();
    let mut client = Client::connect(running.address, 0)?;
    client.echo(TEXT)?;
    let before = machine::anonymous_bytes(pid)?;
    let resident_before = machine::resident_peak_bytes(pid)?;
    let is_over = AtomicBool::new(false);
    let mut writer = client.stream.try_clone()?;
    let (peak, samples) = thread::scope(|scope| -> Result<_> {
        // Write and read at the same time: client and server would deadlock otherwise.
        let written = scope.spawn(move || write_large(&mut writer));
        let watched = scope.spawn(|| watch(pid, &is_over));
        let read = read_large(&mut client.stream);
        is_over.store(true, Ordering::Relaxed);
        let watched = watched.join().expect("sampling does not panic");
        written.join().expect("writing does not panic")?;
        read?;
        Ok(watched)
    })?;
    let resident = machine::resident_peak_bytes(pid)?.saturating_sub(resident_before);
    let growth = peak.saturating_sub(before);
    println!(
        "\n{}: growth while a binary message of {} MiB is echoed\n  anonymous memory, maximum of \
         {samples} samples: {} KiB\n  VmHWM: {} KiB",
        server.name,
        MESSAGE_BYTES >> 20,
        growth >> 10,
        resident >> 10,
    );
    match growth.max(resident) < GROWTH_BYTES_MAX {
        true => Ok(()),
        false => {
            Err(format!("{} grew by {} KiB or more", server.name, GROWTH_BYTES_MAX >> 10).into())
        }
    }
}

/// Peak anonymous memory of process `pid` until `is_over`, and the number of samples.
fn watch(pid: u32, is_over: &AtomicBool) -> (u64, u32) {
    let (mut peak, mut samples) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        // If the server has ended, reading from it fails and reports that.
        peak = peak.max(machine::anonymous_bytes(pid).unwrap_or(0));
        samples += 1;
    }
    (peak, samples)
}

fn write_large(stream: &mut impl Write) -> io::Result<()> {
    let mut header = vec![0x82, 0x80 | 127];
    header.extend_from_slice(&(MESSAGE_BYTES as u64).to_be_bytes());
    header.extend_from_slice(&MASK);
    stream.write_all(&header)?;
    let block: Vec<u8> = masked(&block()).collect();
    for _ in 0..MESSAGE_BYTES / BLOCK_BYTES {
        stream.write_all(&block)?;
    }
    Ok(())
}

/// Reads the echo, in one frame or several, and checks it.
fn read_large(stream: &mut impl Read) -> io::Result<()> {
    let broken = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let (expected, mut piece) = (block(), vec![0; BLOCK_BYTES]);
    let mut matched = 0;
    let mut is_last = false;
    while !is_last {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        is_last = head[0] & 0x80 != 0;
        let mut length = [0; 8];
        match head[1] {
            127 => stream.read_exact(&mut length)?,
            126 => stream.read_exact(&mut length[6..])?,
            short => length[7] = short,
        }
        let mut left = u64::from_be_bytes(length) as usize;
        while left > 0 {
            let at = matched % BLOCK_BYTES;
            let bytes = stream.read(&mut piece[..left.min(BLOCK_BYTES - at)])?;
            if bytes == 0 || piece[..bytes] != expected[at..at + bytes] {
                return broken("the echo is wrong");
            }
            matched += bytes;
            left -= bytes;
        }
    }
    if matched == MESSAGE_BYTES { Ok(()) } else { broken("the echo has another length") }
}

/// The message is a repetition of this.
fn block() -> Vec<u8> {
    (0..BLOCK_BYTES).map(|index| (index * 131 + 7) as u8).collect()
}

const TEXT: &str = "a text of thirty-two characters.";

/// File descriptors reserved for other files of this program and the servers.
const DESCRIPTORS_KEPT: u64 = 100;

const MESSAGE_BYTES: usize = 64 << 20;

/// Limit for our server.
const GROWTH_BYTES_MAX: u64 = 1 << 20;

/// A multiple of the mask's four bytes.
const BLOCK_BYTES: usize = 64 << 10;
