//! The process of a server, which runs on its own core and is always killed at the end.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

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
        let port = free_port()?;
        command.args(server.command(workers, port));
        server.set_environment(&mut command);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        // Processes that it starts belong to its group, and are killed with it.
        command.stdout(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|error| format!("setpriv: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Self { child, address };
        let first_line = running.first_line();
        let listening = match server.takes_port() {
            true => running.wait_until_it_accepts(),
            false => first_line.recv_timeout(START_TIMEOUT).ok().and_then(|line| address_in(&line)),
        };
        let failed = || format!("{} does not start; to see why, run {command:?}", server.name);
        running.address = listening.ok_or_else(failed)?;
        Ok(running)
    }

    /// Its address once it accepts a connection there, or `None` if it has ended or after a timeout.
    fn wait_until_it_accepts(&mut self) -> Option<SocketAddr> {
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            if TcpStream::connect(self.address).is_ok() {
                return Some(self.address);
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return None;
            }
            thread::sleep(CHECK_PAUSE);
        }
        None
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Receives the first line of its output. Further output is read and discarded.
    fn first_line(&mut self) -> Receiver<String> {
        let stdout = BufReader::new(self.child.stdout.take().expect("it is piped"));
        let (first, wait) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(std::result::Result::ok) {
                // Only the first line is received.
                let _ = first.send(line);
            }
        });
        wait
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.pid());
        // Killing fails if all have already ended.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on which nothing listens.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Fails if the server's process did nothing, although it has answered.
pub(crate) fn check_that_it_worked(server_cores: f64) -> Result<()> {
    match server_cores > CORES_MIN {
        true => Ok(()),
        false => Err("the command's process used no CPU time; if it starts the server as another \
                      process, begin the command with the server itself"
            .into()),
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

/// A server that answers messages uses more.
const CORES_MIN: f64 = 0.001;

/// Between two attempts to connect to a server that has just been started.
const CHECK_PAUSE: Duration = Duration::from_millis(20);

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
