//! The process of a server, which runs on its own core and is always killed at the end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::servers::Server;

/// A listening server, killed when dropped. If this program is killed, the kernel kills the server
/// too.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts `server` on `cpus` and waits until it listens.
    pub(crate) fn start(server: &Server, workers: u32, cpus: &str) -> Result<Self> {
        // setpriv and taskset exec their command, so that the process id is the server's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", cpus]);
        command.args(server.command(workers));
        server.set_environment(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("setpriv: {error}"))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, address: nowhere };
        let line = running.first_line().and_then(|line| address_in(&line));
        let failed = || format!("{} does not start; to see why, run {command:?}", server.name);
        running.address = line.ok_or_else(failed)?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line of its output, or `None` after a timeout. Further output is read and
    /// discarded.
    fn first_line(&mut self) -> Option<String> {
        let stdout = BufReader::new(self.child.stdout.take().expect("it is piped"));
        let (first, wait) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(std::result::Result::ok) {
                // Only the first line is received.
                let _ = first.send(line);
            }
        });
        wait.recv_timeout(START_TIMEOUT).ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killing fails if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in `listening on ADDRESS ...`.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split(' ').next()?.parse().ok()
}

/// Pins this program, and the load generators that it starts, to one core, and checks that the
/// servers' cores are available.
pub(crate) fn pin_this_process(cpu: u32, server_cpus: &str) -> Result<()> {
    let (cpu, pid) = (cpu.to_string(), std::process::id().to_string());
    taskset(&cpu, &["-pc", &cpu, &pid])?;
    taskset(server_cpus, &["-c", server_cpus, "true"])
}

fn taskset(cpus: &str, arguments: &[&str]) -> Result<()> {
    let taskset = Command::new("taskset").args(arguments).output();
    match taskset.map_err(|error| format!("taskset: {error}"))?.status.success() {
        true => Ok(()),
        false => Err(format!("CPU {cpus} is not available: taskset rejects it").into()),
    }
}

/// The slowest, Python, takes about a second on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_parsed_from_a_servers_output() {
        let address = "127.0.0.1:80".parse().ok();
        assert_eq!(address_in("listening on 127.0.0.1:80 (1 workers)"), address);
        assert_eq!(address_in("listening on 127.0.0.1:80"), address);
        assert_eq!(address_in("error: 127.0.0.1:80"), None);
    }
}
