//! Builds and installs the servers, inside target folders only.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;

/// This crate's folder.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The programs that cargo has built, by name.
#[derive(Debug)]
pub(crate) struct Built(HashMap<String, PathBuf>);

impl Built {
    /// Builds our examples, and the servers that are written in Rust.
    pub(crate) fn new() -> Result<Self> {
        let mut programs = HashMap::new();
        cargo_build(&project().join("Cargo.toml"), "--examples", &mut programs)?;
        cargo_build(&folder().join("Cargo.toml"), "--bins", &mut programs)?;
        Ok(Self(programs))
    }

    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let program = self.0.get(name).cloned();
        Ok(program.ok_or_else(|| format!("cargo has not built {name}"))?)
    }
}

/// Builds in release mode, and collects the paths of the programs.
fn cargo_build(
    manifest: &Path,
    targets: &str,
    programs: &mut HashMap<String, PathBuf>,
) -> Result<()> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", targets])
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build --manifest-path {} failed", manifest.display()).into());
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)?;
        if let Some(program) = message["executable"].as_str() {
            let name = message["target"]["name"].as_str().unwrap_or_default();
            programs.insert(name.to_owned(), program.into());
        }
    }
    Ok(())
}

/// Compiles the hand-written C server.
pub(crate) fn yardstick() -> Result<PathBuf> {
    let program = work_folder("yardstick")?.join("raw-epoll");
    let source = folder().join("yardstick/raw-epoll.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O3", "-march=native", "-flto", "-pthread", "-o"]);
    run("cc", compiler.arg(&program).arg(source))?;
    Ok(program)
}

/// Installs `ws`, and `bufferutil`, which is optional and makes it faster.
pub(crate) fn node_ws() -> Result<(PathBuf, PathBuf)> {
    let node = program_path("node")?;
    let folder = work_folder("node-ws")?;
    let install = |packages: &[String]| {
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(&folder);
        npm.args(["--no-audit", "--no-fund", "--prefer-offline", "--loglevel", "error"]);
        run("npm", npm.args(packages))
    };
    let (ws, bufferutil) = (format!("ws@{NODE_WS}"), format!("bufferutil@{NODE_BUFFERUTIL}"));
    if install(&[ws.clone(), bufferutil]).is_err() {
        install(&[ws])?;
        eprintln!("node-ws: bufferutil could not be installed");
    }
    Ok((node, folder.join("node_modules")))
}

/// Installs `websockets`, and `uvloop`, which is optional and makes it faster.
pub(crate) fn python_websockets() -> Result<PathBuf> {
    let folder = work_folder("python-websockets")?;
    let python = folder.join("bin/python");
    if !python.exists() {
        run("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    let install = |package: String| {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "--disable-pip-version-check", "-q", "install"]);
        run("pip", pip.arg(package))
    };
    install(format!("websockets=={PYTHON_WEBSOCKETS}"))?;
    if install(format!("uvloop=={PYTHON_UVLOOP}")).is_err() {
        eprintln!("python-websockets: uvloop could not be installed");
    }
    Ok(python)
}

/// The version of a server written in Rust, from the lock file. The newest, if there are several.
pub(crate) fn locked_version(name: &str) -> String {
    let package = format!("name = \"{name}\"\nversion = \"");
    let found = include_str!("../Cargo.lock").rsplit_once(&package);
    found.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown").to_owned()
}

/// Our version, with the commit if this is a clone.
pub(crate) fn our_version() -> String {
    let manifest = include_str!("../../../Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.unwrap_or("unknown").trim_matches('"');
    let mut git = Command::new("git");
    git.arg("-C").arg(project()).args(["rev-parse", "--short", "HEAD"]).stderr(Stdio::null());
    match git.output() {
        Ok(output) if output.status.success() => {
            format!("{version}-{}", String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => version.to_owned(),
    }
}

/// The folder for results and installed servers.
pub(crate) fn out_folder() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => Path::new(&target).join("peers"),
        None => project().join("target/peers"),
    }
}

/// The root of the repository.
fn project() -> PathBuf {
    folder().ancestors().nth(2).expect("this crate is two folders down").to_owned()
}

fn work_folder(name: &str) -> Result<PathBuf> {
    let folder = out_folder().join("installed").join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The real path of Node `name`, without the wrapper of a version manager, which would be a further
/// process.
fn program_path(name: &str) -> Result<PathBuf> {
    let script = "process.stdout.write(process.execPath)";
    let output = Command::new(name).args(["-e", script]).output();
    let output = output.map_err(|error| unavailable(name, &error))?;
    Ok(String::from_utf8(output.stdout)?.into())
}

fn unavailable(name: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{name} is not on this machine"),
        _ => format!("{name}: {error}"),
    }
}

/// Runs a command to completion. The error is the first line of its standard error.
fn run(name: &str, command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| unavailable(name, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().find(|line| !line.trim().is_empty());
    Err(format!("{name}: {}", first.unwrap_or("failed without a message").trim()).into())
}

pub(crate) const NODE_WS: &str = "8.23.0";
const NODE_BUFFERUTIL: &str = "4.1.0";
pub(crate) const PYTHON_WEBSOCKETS: &str = "17.4";
const PYTHON_UVLOOP: &str = "0.23.0";
