//! The servers, their versions, and how to start them.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::args::Options;
use crate::build::{self, Built};

/// A server, ready to be started. It prints a line that begins with `listening on` and an address.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    takes: Takes,
}

/// How a server takes its number of workers.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// As `--workers N`.
    Option,
    /// As an argument.
    Argument,
    /// Not at all: it always has one.
    Nothing,
}

/// Our server's name in the tables.
pub(crate) const OURS: &str = "ws-reactor";

/// The hand-written C server.
pub(crate) const YARDSTICK: &str = "raw-epoll";

/// All names, in the order of the tables.
pub(crate) const NAMES: [&str; 7] = [
    OURS,
    YARDSTICK,
    "fastwebsockets",
    "tokio-tungstenite",
    "axum",
    "node-ws",
    "python-websockets",
];

impl Server {
    /// The command line that starts the server with `workers` worker threads.
    pub(crate) fn command(&self, workers: u32) -> Vec<String> {
        let mut command = vec![self.program.display().to_string()];
        command.extend(self.arguments.iter().cloned());
        match self.takes {
            Takes::Option => command.extend(["--workers".to_owned(), workers.to_string()]),
            Takes::Argument => command.push(workers.to_string()),
            Takes::Nothing => {}
        }
        command
    }

    /// The same server with further arguments.
    pub(crate) fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub(crate) fn set_environment(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    fn native(name: &'static str, version: String, program: PathBuf) -> Self {
        let (arguments, environment) = (Vec::new(), Vec::new());
        Self { name, version, program, arguments, environment, takes: Takes::Argument }
    }

    fn ours(built: &Built) -> Result<Self> {
        let arguments = ["--addr", "127.0.0.1:0", "--message-max", "134217728"];
        Ok(Self {
            arguments: arguments.map(str::to_owned).into(),
            // The others do not log connections.
            environment: vec![("RUST_LOG", "warn".into())],
            takes: Takes::Option,
            ..Self::native(OURS, build::our_version(), built.program("server")?)
        })
    }

    fn node(program: PathBuf, modules: PathBuf) -> Self {
        let script = build::folder().join("servers/node-ws.cjs").display().to_string();
        Self {
            arguments: vec![script],
            environment: vec![("NODE_PATH", modules)],
            takes: Takes::Nothing,
            ..Self::native("node-ws", build::NODE_WS.to_owned(), program)
        }
    }

    fn python(program: PathBuf) -> Self {
        let script = build::folder().join("servers/python-websockets.py").display().to_string();
        Self {
            arguments: vec![script],
            takes: Takes::Nothing,
            ..Self::native("python-websockets", build::PYTHON_WEBSOCKETS.to_owned(), program)
        }
    }
}

/// Builds `load` and those servers of `among` that `options` select. Servers that are not available
/// are reported on standard error and skipped.
pub(crate) fn prepare(options: &Options, among: &[&str]) -> Result<(Vec<Server>, PathBuf)> {
    if let Some(unknown) = options.servers.iter().find(|name| !NAMES.contains(&&***name)) {
        return Err(format!("{unknown} is not one of {}", NAMES.join(", ")).into());
    }
    let built = Built::new()?;
    let mut servers = Vec::new();
    let wanted = |name: &str| {
        among.contains(&name)
            && (options.servers.is_empty() || options.servers.iter().any(|wanted| wanted == name))
    };
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        match prepare_one(name, &built) {
            Ok(server) if options.workers > 1 && matches!(server.takes, Takes::Nothing) => {
                eprintln!("{name} is skipped: it supports only one worker");
            }
            Ok(server) => servers.push(server),
            Err(error) => eprintln!("{name} is skipped: {error}"),
        }
    }
    if servers.is_empty() {
        return Err("there is no server to measure".into());
    }
    Ok((servers, built.program("load")?))
}

fn prepare_one(name: &'static str, built: &Built) -> Result<Server> {
    match name {
        OURS => Server::ours(built),
        YARDSTICK => {
            let program = build::yardstick()?;
            Ok(Server::native(YARDSTICK, "-".to_owned(), program))
        }
        "node-ws" => {
            let (program, modules) = build::node_ws()?;
            Ok(Server::node(program, modules))
        }
        "python-websockets" => Ok(Server::python(build::python_websockets()?)),
        name => {
            let program = built.program(&format!("peer-{name}"))?;
            Ok(Server::native(name, build::locked_version(name), program))
        }
    }
}
