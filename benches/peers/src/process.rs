//! A server's process: started on its own core, ended in any case.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::servers::Server;

/// A server that listens; killed when dropped. When this program is killed itself, by Ctrl-C or
/// anything else, the kernel kills the server too.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts `server` on `cpus` and waits until it listens.
    pub(crate) fn start(server: &Server, workers: u32, cpus: &str) -> Result<Self> {
        // Each of the first two becomes the next, so that the process is the server's own.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", cpus]);
        command.args(server.command(workers));
        server.set_environment(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("setpriv: {error}"))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, address: nowhere };
        let line = running.first_line().and_then(|line| address_in(&line));
        let failed = || format!("{} does not start; try it: {command:?}", server.name);
        running.address = line.ok_or_else(failed)?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it prints first, `None` when it prints nothing in time. Whatever else it prints is
    /// read and dropped.
    fn first_line(&mut self) -> Option<String> {
        let stdout = BufReader::new(self.child.stdout.take().expect("it is piped"));
        let (first, wait) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(std::result::Result::ok) {
                // Only the first is waited for.
                let _ = first.send(line);
            }
        });
        wait.recv_timeout(START_TIMEOUT).ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and then it is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in `listening on ADDRESS` and whatever follows.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split(' ').next()?.parse().ok()
}

/// Puts this program, and with it the load generators that it starts, on one core; sees to it that
/// the servers can have theirs.
pub(crate) fn pin_this_process(cpu: u32, server_cpus: &str) -> Result<()> {
    let (cpu, pid) = (cpu.to_string(), std::process::id().to_string());
    taskset(&cpu, &["-pc", &cpu, &pid])?;
    taskset(server_cpus, &["-c", server_cpus, "true"])
}

fn taskset(cpus: &str, arguments: &[&str]) -> Result<()> {
    let taskset = Command::new("taskset").args(arguments).output();
    match taskset.map_err(|error| format!("taskset: {error}"))?.status.success() {
        true => Ok(()),
        false => Err(format!("CPU {cpus} is not to be had: taskset refuses it").into()),
    }
}

/// Python takes the longest, about a second on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_a_server_prints() {
        let address = "127.0.0.1:80".parse().ok();
        assert_eq!(address_in("listening on 127.0.0.1:80 (1 workers)"), address);
        assert_eq!(address_in("listening on 127.0.0.1:80"), address);
        assert_eq!(address_in("error: 127.0.0.1:80"), None);
    }
}
