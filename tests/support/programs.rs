//! The examples as processes, with their output line by line and their exit status.
//!
//! `cargo test` builds them before it runs a test. `cargo test --test examples` does not, and runs
//! the programs of the last `cargo build --examples`.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::wait_until;

/// The log filters of an example that should log little.
const QUIET: &str = "warn,server::report=debug";

/// A running example. It is killed if the test ends first.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The exit status and output of an example.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Program {
    /// Starts the example `name`. Spaces separate the arguments.
    #[track_caller]
    pub fn start(name: &str, arguments: &str) -> Self {
        Self::start_with(name, &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts the example `name`.
    #[track_caller]
    pub fn start_with(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(path(name)).args(arguments).env_remove("RUST_LOG"))
    }

    /// Starts the example `name` so that it logs only warnings and the counters of `--stats`, for
    /// tests that would fill the log.
    #[track_caller]
    pub fn start_quiet(name: &str, arguments: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = command(name, arguments);
        Self::spawn(command.env("RUST_LOG", QUIET).envs(environment.iter().copied()))
    }

    /// Starts the example `name` as [`start_quiet`](Self::start_quiet) does, with a hard limit of
    /// `descriptors` open descriptors.
    #[track_caller]
    pub fn start_limited(name: &str, descriptors: usize, arguments: &str) -> Self {
        let limit = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let path = path(name);
        let mut command = Command::new("sh");
        command.args(["-c", &limit]).arg(path).args(arguments.split_whitespace());
        Self::spawn(command.env("RUST_LOG", QUIET))
    }

    /// Starts the example `name` with a soft limit of `descriptors` open descriptors.
    #[track_caller]
    pub fn start_with_soft_limit(name: &str, descriptors: usize, arguments: &str) -> Self {
        let limit = format!("ulimit -S -n {descriptors} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limit]).arg(path(name)).args(arguments.split_whitespace());
        Self::spawn(&mut command)
    }

    /// Starts the example `name` with these log filters.
    #[track_caller]
    pub fn start_filtered(name: &str, arguments: &str, filters: &str) -> Self {
        let mut command = command(name, arguments);
        Self::spawn(command.env("RUST_LOG", filters))
    }

    /// Starts the example `name` in a shell that has set `signals` to be ignored.
    #[track_caller]
    pub fn start_ignoring(name: &str, arguments: &str, signals: &str) -> Self {
        let script = format!("trap '' {signals}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(path(name)).args(arguments.split_whitespace());
        Self::spawn(command.env_remove("RUST_LOG"))
    }

    /// Starts the example `name` with `log` as its standard error.
    #[track_caller]
    pub fn start_logging_to(name: &str, arguments: &str, filters: &str, log: PipeWriter) -> Self {
        let mut command = command(name, arguments);
        Self::spawn_with(command.env("RUST_LOG", filters), Stdio::piped(), log.into())
    }

    /// Starts the example `name` with `output` as its standard output.
    #[track_caller]
    pub fn start_printing_to(name: &str, arguments: &str, output: PipeWriter) -> Self {
        let mut command = command(name, arguments);
        Self::spawn_with(command.env_remove("RUST_LOG"), output.into(), Stdio::piped())
    }

    #[track_caller]
    fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::piped(), Stdio::piped())
    }

    #[track_caller]
    fn spawn_with(command: &mut Command, stdout: Stdio, stderr: Stdio) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| {
                let release = if cfg!(debug_assertions) { "" } else { " --release" };
                panic!("{command:?}: {error}; `cargo build{release} --examples` makes the examples")
            });
        let stdout = child.stdout.take().map_or_else(|| Lines::of(std::io::empty()), Lines::of);
        let stderr = child.stderr.take().map_or_else(|| Lines::of(std::io::empty()), Lines::of);
        Self { child, stdout, stderr }
    }

    /// Waits for the first line on standard output that contains `part`.
    #[track_caller]
    pub fn line(&self, part: &str) -> String {
        self.stdout.wait_for(part)
    }

    /// Waits for the first line on standard error that contains `part`.
    #[track_caller]
    pub fn error_line(&self, part: &str) -> String {
        self.stderr.wait_for(part)
    }

    /// The number of lines on standard error so far that contain `part`, and the last of them.
    pub fn last_error_line(&self, part: &str) -> (usize, Option<String>) {
        self.stderr.with(|lines| {
            let mut found = lines.iter().filter(|line| line.contains(part));
            (found.clone().count(), found.next_back().cloned())
        })
    }

    /// The lines on standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.snapshot()
    }

    /// Writes a line to its standard input.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{line}").expect("the example reads");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of its threads.
    pub fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs");
        // A thread may end meanwhile, and its time is then missing.
        let nanos = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Whether it has ended.
    #[track_caller]
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Whether it has printed a line that contains `part`.
    pub fn has_printed(&self, part: &str) -> bool {
        self.stdout.snapshot().iter().any(|line| line.contains(part))
    }

    /// Sends a signal, by its name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // kill is built into every shell.
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
        assert!(status.success(), "{command}: {status}");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        wait_until("the example ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        Ended {
            status: status.expect("it has ended"),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if the process has ended, which is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server example on a free port, and its address.
#[track_caller]
pub fn server(arguments: &str) -> (Program, SocketAddr) {
    let server = Program::start("server", &format!("--addr 127.0.0.1:0 {arguments}"));
    let address = listening(&server);
    (server, address)
}

/// The address in the first line that the server prints.
#[track_caller]
pub fn listening(server: &Program) -> SocketAddr {
    let line = server.line("listening on ");
    let address = line.split(' ').nth(2).expect("an address");
    address.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Ends a server with SIGTERM, and checks that it exits with 0.
#[track_caller]
pub fn terminate(server: Program) -> Ended {
    server.signal("TERM");
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended
}

/// A full pipe, which stays full until its reader is dropped.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut filler = writer.try_clone().expect("a descriptor");
    // The thread blocks in its last write until the reader is dropped.
    std::thread::spawn(move || while filler.write(&[b'.'; 4096]).is_ok() {});
    (reader, writer)
}

/// Runs the example `name` to its end.
#[track_caller]
pub fn run(name: &str, arguments: &str) -> Ended {
    Program::start(name, arguments).wait()
}

/// Checks that the example `name` exits with 2 and says why if its address is in use, and if the
/// number of workers or an address is invalid.
#[track_caller]
pub fn refuses_unusable_options(name: &str) {
    let first = Program::start(name, "--addr 127.0.0.1:0 --workers 1");
    let address = listening(&first);
    for (arguments, reason) in [
        (format!("--addr {address}"), format!("{name}: cannot listen on {address}: ")),
        ("--addr 127.0.0.1:0 --workers 0".to_owned(), "at least one worker".to_owned()),
        ("--addr nonsense".to_owned(), "nonsense".to_owned()),
    ] {
        let ended = run(name, &arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stdout, [""; 0]);
        assert!(ended.stderr[0].contains(&reason), "{ended:?}");
        // clap adds a hint to its own errors.
        assert!(ended.stderr.len() == 1 || reason == "nonsense", "{ended:?}");
    }
    terminate(first);
}

fn command(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(path(name));
    command.args(arguments.split_whitespace());
    command
}

/// `target/PROFILE/examples/NAME`, next to the folder `deps`, which contains this test.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("cargo's layout");
    profile.join("examples").join(name)
}

/// The lines of a stream, collected by a thread.
#[derive(Debug)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let line = line.expect("an example prints UTF-8");
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn with<R>(&self, look: impl FnOnce(&[String]) -> R) -> R {
        look(&self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshot(&self) -> Vec<String> {
        self.with(<[String]>::to_vec)
    }

    #[track_caller]
    fn wait_for(&self, part: &str) -> String {
        let mut found = None;
        wait_until(&format!("a line has {part:?} in it"), || {
            found = self.snapshot().into_iter().find(|line| line.contains(part));
            found.is_some()
        });
        found.expect("it has been found")
    }

    /// All lines, once the stream has ended.
    fn finish(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the lines are read");
        }
        self.snapshot()
    }
}
