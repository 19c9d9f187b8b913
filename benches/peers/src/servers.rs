//! The servers, their versions, and how to start them.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::args::{Also, Options};
use crate::build::{self, Built};

/// Our server's name in the tables.
pub(crate) const OURS: &str = "ws-reactor";

/// The hand-written C server that echoes.
pub(crate) const YARDSTICK: &str = "raw-epoll";

/// The hand-written C server that sends each message to everyone.
pub(crate) const FAN_YARDSTICK: &str = "rawfan";

/// All servers, in the order of the tables. Each is a line here, and a file: `yardstick/NAME.c`,
/// `src/bin/peer-NAME.rs`, `servers/NAME.cjs`, `servers/NAME.ts` for Bun, or `servers/NAME.py`.
pub(crate) const BUILT_IN: &[BuiltIn] = &[
    server(OURS, Kind::Ours, EVERY_TASK),
    server(YARDSTICK, Kind::C, ECHO),
    server(FAN_YARDSTICK, Kind::C, FAN_OUT),
    server("fastwebsockets", Kind::Rust, ECHO),
    server("tokio-tungstenite", Kind::Rust, ECHO_OR_FAN_OUT),
    server("axum", Kind::Rust, ECHO_OR_FAN_OUT),
    server("tokio-websockets", Kind::Rust, ECHO),
    server("sockudo-ws", Kind::Rust, ECHO),
    server("actix-ws", Kind::Rust, ECHO),
    server("bun", Kind::Bun("bun@1.4.4"), ECHO_OR_FAN_OUT),
    server("node-ws", Kind::Node(&["ws@8.23.0", "bufferutil@4.1.0"]), ECHO_OR_FAN_OUT),
    server("picows", Kind::Python(&["picows==2.3.1", UVLOOP]), ECHO),
    server("python-websockets", Kind::Python(&["websockets==17.4", UVLOOP]), ECHO_OR_FAN_OUT),
];

const fn server(name: &'static str, kind: Kind, tasks: &'static [Task]) -> BuiltIn {
    BuiltIn { name, kind, tasks }
}

/// An optional package for servers on asyncio.
const UVLOOP: &str = "uvloop==0.23.0";

/// A server of this project or of another.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    pub(crate) name: &'static str,
    kind: Kind,
    tasks: &'static [Task],
}

/// How a server is built or installed. Of the packages of a language, the first is the server,
/// whose version is shown; the others are optional and make it faster.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ours,
    C,
    Rust,
    Bun(&'static str),
    Node(&'static [&'static str]),
    Python(&'static [&'static str]),
}

/// The answer of a server to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Task {
    /// Sends it back.
    Echo,
    /// Sends it to every connection, its sender included. Our server and the built-in peers do so
    /// with the argument `--broadcast`.
    FanOut,
    /// Does the first at the path [`ECHO_PATH`], and the second elsewhere.
    EchoAndFanOut,
}

/// The path of echoes on a server that also fans out.
pub(crate) const ECHO_PATH: &str = "/echo";

const ECHO: &[Task] = &[Task::Echo];

const ECHO_OR_FAN_OUT: &[Task] = &[Task::Echo, Task::FanOut];

const FAN_OUT: &[Task] = &[Task::FanOut, Task::EchoAndFanOut];

const EVERY_TASK: &[Task] = &[Task::Echo, Task::FanOut, Task::EchoAndFanOut];

/// A server, ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The program and its arguments, with `{workers}` for the number of its worker threads, and
    /// `{port}` if it cannot choose a free one itself.
    command: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Server {
    /// The command line that starts the server with `workers` worker threads. `port` is used if
    /// [`takes_port`](Self::takes_port).
    pub(crate) fn command(&self, workers: u32, port: u16) -> Vec<String> {
        let (workers, port) = (workers.to_string(), port.to_string());
        let part = |part: &String| part.replace(WORKERS, &workers).replace(PORT, &port);
        self.command.iter().map(part).collect()
    }

    /// Whether it listens on a port of our choice. Otherwise it prints `listening on ADDRESS`.
    pub(crate) fn takes_port(&self) -> bool {
        self.command.iter().any(|part| part.contains(PORT))
    }

    /// A server that cannot be started.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        let (name, version) = (name.to_owned(), String::new());
        Self { name, version, command: Vec::new(), environment: Vec::new() }
    }

    /// Whether it can have more than one worker.
    fn takes_workers(&self) -> bool {
        self.command.iter().any(|part| part.contains(WORKERS))
    }

    /// The same server with further arguments.
    pub(crate) fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub(crate) fn set_environment(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

impl BuiltIn {
    /// Builds or installs the server.
    fn prepare(&self, task: Task, built: &Built) -> Result<Server> {
        let name = self.name;
        let script =
            |extension| format!("{}/servers/{name}.{extension}", build::folder().display());
        let mut environment = Vec::new();
        let (version, mut command) = match self.kind {
            Kind::Ours if task == Task::EchoAndFanOut => {
                let program = built.program("echo-and-topic")?.display().to_string();
                (build::our_version(), vec![program, WORKERS.to_owned()])
            }
            Kind::Ours => {
                // The others do not log connections.
                environment.push(("RUST_LOG", "warn".into()));
                let arguments = ["--addr", "127.0.0.1:0", "--message-max", "134217728"];
                let program = built.program("server")?.display().to_string();
                let mut command = vec![program];
                command.extend(arguments.map(str::to_owned));
                command.extend(["--workers", WORKERS].map(str::to_owned));
                (build::our_version(), command)
            }
            Kind::C => {
                let program = build::yardstick(name)?.display().to_string();
                ("-".to_owned(), vec![program, WORKERS.to_owned()])
            }
            Kind::Rust => {
                let program = built.program(&format!("peer-{name}"))?.display().to_string();
                (build::locked_version(name), vec![program, WORKERS.to_owned()])
            }
            Kind::Bun(package) => {
                let program = build::bun(package)?.display().to_string();
                (version_of(package), vec![program, script("ts")])
            }
            Kind::Node(packages) => {
                let (program, modules) = build::node(name, packages)?;
                environment.push(("NODE_PATH", modules));
                (version_of(packages[0]), vec![program.display().to_string(), script("cjs")])
            }
            Kind::Python(packages) => {
                let program = build::python(name, packages)?.display().to_string();
                // Without -P, a script that is named after a package would be imported instead.
                (version_of(packages[0]), vec![program, "-P".to_owned(), script("py")])
            }
        };
        // The C server for fan-out does nothing else.
        if task == Task::FanOut && !matches!(self.kind, Kind::C) {
            command.push("--broadcast".to_owned());
        }
        Ok(Server { name: name.to_owned(), version, command, environment })
    }
}

/// The version in `NAME@VERSION` or `NAME==VERSION`.
fn version_of(package: &str) -> String {
    package.rsplit(['@', '=']).next().unwrap_or_default().to_owned()
}

/// Builds `load` and the servers that can do `task`, are selected by `options`, and, if built in, are
/// `among` those wanted. Servers that are not available are reported on standard error and skipped.
pub(crate) fn prepare(
    options: &Options,
    task: Task,
    among: impl Fn(&str) -> bool,
) -> Result<(Vec<Server>, PathBuf)> {
    check_names(options)?;
    let built = Built::new()?;
    let mut servers = Vec::new();
    let mut add = |server: Server| match options.workers > 1 && !server.takes_workers() {
        true => eprintln!("{} is skipped: it supports only one worker", server.name),
        false => servers.push(server),
    };
    let is_selected =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    for built_in in BUILT_IN {
        let name = built_in.name;
        if !built_in.tasks.contains(&task) || !among(name) || !is_selected(name) {
            continue;
        }
        match built_in.prepare(task, &built) {
            Ok(server) => add(server),
            Err(error) => eprintln!("{name} is skipped: {error}"),
        }
    }
    for Also { name, command } in options.also.iter().filter(|also| is_selected(&also.name)) {
        let (name, version) = (name.clone(), "-".to_owned());
        add(Server { name, version, command: command.clone(), environment: Vec::new() });
    }
    if servers.is_empty() {
        return Err("there is no server to measure".into());
    }
    Ok((servers, built.program("load")?))
}

/// Checks that `--also` gives new names and `--only` known ones.
fn check_names(options: &Options) -> Result<()> {
    let mut known: Vec<&str> = BUILT_IN.iter().map(|built_in| built_in.name).collect();
    for Also { name, .. } in &options.also {
        if known.contains(&&**name) {
            return Err(format!("--also: there is already a server {name}").into());
        }
        known.push(name);
    }
    match options.only.iter().find(|name| !known.contains(&&***name)) {
        Some(unknown) => {
            Err(format!("--only: {unknown} is not one of {}", known.join(", ")).into())
        }
        None => Ok(()),
    }
}

/// Stands for the number of workers in a command.
const WORKERS: &str = "{workers}";

/// Stands for the port in a command.
pub(crate) const PORT: &str = "{port}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_a_command_are_replaced() {
        let command = ["serve", "--port={port}", "{workers}"].map(str::to_owned).into();
        let server = Server { command, ..Server::named("mine") };
        assert!(server.takes_port() && server.takes_workers());
        assert_eq!(server.command(2, 9001), ["serve", "--port=9001", "2"]);
    }

    #[test]
    fn a_version_is_parsed_from_a_package() {
        assert_eq!(version_of("ws@8.23.0"), "8.23.0");
        assert_eq!(version_of("websockets==17.4"), "17.4");
    }
}
