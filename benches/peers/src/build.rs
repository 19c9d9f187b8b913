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

/// Compiles a hand-written C program.
pub(crate) fn yardstick(name: &str) -> Result<PathBuf> {
    let program = work_folder("yardstick")?.join(name);
    let source = folder().join(format!("yardstick/{name}.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O3", "-march=native", "-flto", "-pthread", "-o"]);
    run("cc", compiler.arg(&program).arg(source))?;
    Ok(program)
}

/// Installs packages for Node; all but the first are optional. Returns Node and their folder.
pub(crate) fn node(server: &str, packages: &[&str]) -> Result<(PathBuf, PathBuf)> {
    let node = real_path(Command::new("node"), "node")?;
    let folder = work_folder(server)?;
    if npm_install(&folder, packages).is_err() {
        npm_install(&folder, &packages[..1])?;
        eprintln!("{server}: {} could not be installed", packages[1..].join(", "));
    }
    Ok((node, folder.join("node_modules")))
}

/// Installs Bun, which is a package of npm.
pub(crate) fn bun(package: &str) -> Result<PathBuf> {
    let folder = work_folder("bun")?;
    npm_install(&folder, &[package])?;
    real_path(Command::new(folder.join("node_modules/.bin/bun")), "bun")
}

fn npm_install(folder: &Path, packages: &[&str]) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.arg("install").arg("--prefix").arg(folder);
    npm.args(["--no-audit", "--no-fund", "--prefer-offline", "--loglevel", "error"]);
    run("npm", npm.args(packages))
}

/// Installs packages for Python in an environment of their own; all but the first are optional.
pub(crate) fn python(server: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = work_folder(server)?;
    let python = folder.join("bin/python");
    if !python.exists() {
        run("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    for (index, package) in packages.iter().enumerate() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "--disable-pip-version-check", "-q", "install", package]);
        match run("pip", &mut pip) {
            Err(error) if index == 0 => return Err(error),
            Err(_) => eprintln!("{server}: {package} could not be installed"),
            Ok(()) => {}
        }
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

/// The real path of Node or Bun, without the wrapper of a version manager or of npm, which would be
/// a further process.
fn real_path(mut program: Command, name: &str) -> Result<PathBuf> {
    let output = program.args(["-e", "process.stdout.write(process.execPath)"]).output();
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
