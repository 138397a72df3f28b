//! Configuration: defaults, then `/etc/bosun/config.toml` (absent is fine), then flags (rows SYS-4, SYS-5).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bosun_actors::gc::ScheduleOptions;
use bosun_storage::retention::{EVENTS_KEPT_MAX, Retention};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// Where the configuration is looked for when no flag names one.
pub const CONFIG_PATH: &str = "/etc/bosun/config.toml";

/// bosun's container daemon.
///
/// Holds containers under supervision. Restart, upgrade or kill it at any time: containers go on, and nothing is lost.
#[derive(Parser)]
#[command(
    name = "bosund",
    version,
    after_help = "EXAMPLES:\n  bosund\n  bosund --root /data/bosun --state /run/bosun --log-level debug\n  bosund config default > /etc/bosun/config.toml"
)]
pub struct Arguments {
    /// Configuration file [default: /etc/bosun/config.toml when it exists].
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// What survives a reboot: database, content, snapshots, logs [default: /var/lib/bosun].
    #[arg(long)]
    root: Option<PathBuf>,
    /// What does not: shims and their sockets [default: /run/bosun].
    #[arg(long)]
    state: Option<PathBuf>,
    /// Unix socket to serve on [default: <state>/bosun.sock].
    #[arg(short, long, env = "BOSUN_ADDRESS")]
    address: Option<PathBuf>,
    /// trace, debug, info, warn or error; RUST_LOG wins [default: info].
    #[arg(short, long)]
    log_level: Option<String>,
    /// text, or json for machines: one object a line, with the call that it belongs to [default: text].
    #[arg(long, value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// cgroup below which containers are put [default: /bosun].
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// Serve metrics as Prometheus text at http://<address>/v1/metrics, such as 127.0.0.1:1338 [default: not at all].
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<String>,
    /// Collect garbage only when it is asked for [default: by itself too].
    #[arg(long)]
    no_automatic_gc: bool,
    /// The shim program [default: bosun-shim beside bosund, else from PATH].
    #[arg(long)]
    shim: Option<PathBuf>,
    /// CRIU, for checkpoints: a path, or a name that is looked up in PATH [default: criu].
    #[arg(long)]
    criu_path: Option<String>,
    /// Directory with CDI specs of devices; repeatable, a later one counts more [default: /etc/cdi, /var/run/cdi].
    #[arg(long, value_name = "DIRECTORY")]
    cdi_dir: Vec<PathBuf>,
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Sub-commands.
#[derive(Subcommand)]
pub enum Command {
    /// Work with the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List every crash point of every operation, one a line; for the chaos tests.
    #[command(hide = true)]
    CrashPoints,
    /// Try what this host can do: a line for each thing, `ok` or why not. `bosun doctor` judges it.
    #[command(hide = true)]
    Probe {
        /// Where files may be made; they are removed again.
        directory: PathBuf,
    },
}

/// Sub-commands of `config`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the default configuration as TOML.
    Default,
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What survives a reboot.
    pub root: PathBuf,
    /// What does not.
    pub state: PathBuf,
    /// The shim program; empty: beside bosund, else from PATH.
    pub shim: PathBuf,
    /// cgroup below which containers are put.
    pub cgroup_parent: String,
    /// CRIU, for checkpoints: a path, or a name that is looked up in PATH.
    pub criu_path: String,
    /// Directories with CDI specs of devices; a later one counts more.
    pub cdi_directories: Vec<PathBuf>,
    /// Score that keeps the daemon from the OOM killer.
    pub oom_score: i32,
    /// The edge.
    pub rpc: Rpc,
    /// Metrics for a collector.
    pub metrics: Metrics,
    /// How registries are reached.
    pub registry: RegistryConfig,
    /// Garbage collection.
    pub gc: GarbageCollection,
    /// How long events are kept.
    pub events: Events,
    /// The log.
    pub log: Log,
}

/// The RPC edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// Socket; empty: `<state>/bosun.sock`.
    pub address: PathBuf,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Mode of the socket, in octal text.
    pub mode: String,
}

/// Metrics for a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// `IP:PORT` to serve Prometheus text on; empty: nowhere. Whoever reaches it may read it.
    pub address: String,
}

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Directory of per-host settings, `<host>/hosts.toml` in containerd's form, read anew for each transfer; empty: none.
    pub config_path: PathBuf,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { config_path: "/etc/bosun/certs.d".into() }
    }
}

/// When garbage is collected (GC-6): containerd's settings under containerd's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GarbageCollection {
    /// By itself; without it only when it is asked for.
    pub automatic: bool,
    /// The part of the time that may go into collecting, 0 to 0.5.
    pub pause_threshold: f64,
    /// Deletions after which it begins at once; 0: a deletion only makes the next planned collection happen.
    pub deletion_threshold: u64,
    /// Commits after which the next planned collection happens without any deletion; 0: never.
    pub mutation_threshold: u64,
    /// Milliseconds between a reason and the collection.
    pub schedule_delay_ms: u64,
    /// Milliseconds between the daemon's start and the first collection.
    pub startup_delay_ms: u64,
    /// Hours that an unfinished write that no lease holds may rest before it is forgotten.
    pub ingest_expiry_hours: u64,
}

impl Default for GarbageCollection {
    fn default() -> Self {
        let options = ScheduleOptions::default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            automatic: options.automatic,
            pause_threshold: options.pause_threshold,
            deletion_threshold: options.deletion_threshold,
            mutation_threshold: options.mutation_threshold,
            schedule_delay_ms: millis(options.schedule_delay),
            startup_delay_ms: millis(options.startup_delay),
            ingest_expiry_hours: options.ingest_expiry.as_secs() / 3600,
        }
    }
}

impl GarbageCollection {
    /// As the collector takes them.
    pub fn options(&self) -> ScheduleOptions {
        ScheduleOptions {
            automatic: self.automatic,
            pause_threshold: self.pause_threshold,
            deletion_threshold: self.deletion_threshold,
            mutation_threshold: self.mutation_threshold,
            schedule_delay: Duration::from_millis(self.schedule_delay_ms),
            startup_delay: Duration::from_millis(self.startup_delay_ms),
            ingest_expiry: Duration::from_secs(self.ingest_expiry_hours.saturating_mul(3600)),
        }
    }
}

/// How long events are kept. Whoever still wants older ones is told which are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Most events.
    pub keep_max: u64,
    /// Longest time, such as `12h` or `30d`; empty: only their number counts.
    pub keep_for: String,
}

impl Default for Events {
    fn default() -> Self {
        Self { keep_max: EVENTS_KEPT_MAX, keep_for: String::new() }
    }
}

impl Events {
    /// As the store takes it.
    pub fn retention(&self) -> anyhow::Result<Retention> {
        anyhow::ensure!(self.keep_max > 0, "events.keep_max: at least 1");
        let age_max = match self.keep_for.as_str() {
            "" => None,
            text => Some(
                age(text).with_context(|| format!("events.keep_for {text:?}: use 90s, 10m, 12h or 30d"))?,
            ),
        };
        Ok(Retention { events_max: self.keep_max, age_max })
    }
}

/// A whole number of seconds, minutes, hours or days.
fn age(text: &str) -> Option<Duration> {
    let units = [("s", 1_u64), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let (digits, seconds) =
        units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))?;
    let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// The daemon's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Filter in RUST_LOG's form.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/bosun".into(),
            state: "/run/bosun".into(),
            shim: PathBuf::new(),
            cgroup_parent: "/bosun".to_owned(),
            criu_path: "criu".to_owned(),
            cdi_directories: bosun_runtime::spec::CDI_DIRECTORIES.map(PathBuf::from).to_vec(),
            oom_score: 0,
            rpc: Rpc::default(),
            metrics: Metrics::default(),
            registry: RegistryConfig::default(),
            gc: GarbageCollection::default(),
            events: Events::default(),
            log: Log::default(),
        }
    }
}

impl Default for Rpc {
    fn default() -> Self {
        Self { address: PathBuf::new(), uid: 0, gid: 0, mode: "0660".to_owned() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info,fjall=warn,lsm_tree=warn".to_owned(), format: "text".to_owned() }
    }
}

impl Config {
    /// The socket's path.
    pub fn address(&self) -> PathBuf {
        if self.rpc.address.as_os_str().is_empty() {
            self.state.join("bosun.sock")
        } else {
            self.rpc.address.clone()
        }
    }

    /// Where per-host settings of registries are, if anywhere.
    pub fn hosts_directory(&self) -> Option<PathBuf> {
        let path = &self.registry.config_path;
        (!path.as_os_str().is_empty()).then(|| path.clone())
    }

    /// Where metrics are served, if anywhere (MET-1).
    pub fn metrics_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        match self.metrics.address.as_str() {
            "" => Ok(None),
            text => {
                let address = text.parse();
                address.map(Some).with_context(|| format!("metrics.address {text:?} is not IP:PORT"))
            }
        }
    }

    /// The socket's mode.
    pub fn socket_mode(&self) -> anyhow::Result<u32> {
        u32::from_str_radix(&self.rpc.mode, 8)
            .with_context(|| format!("rpc.mode {:?} is not octal, such as \"0660\"", self.rpc.mode))
    }
}

/// File, then flags.
pub fn load(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = match &arguments.config {
        Some(path) => read(path)?,
        None if Path::new(CONFIG_PATH).exists() => read(Path::new(CONFIG_PATH))?,
        None => Config::default(),
    };
    set(&mut config.root, arguments.root.clone());
    set(&mut config.state, arguments.state.clone());
    set(&mut config.rpc.address, arguments.address.clone());
    set(&mut config.log.level, arguments.log_level.clone());
    set(&mut config.log.format, arguments.log_format.clone());
    set(&mut config.cgroup_parent, arguments.cgroup_parent.clone());
    set(&mut config.metrics.address, arguments.metrics_address.clone());
    set(&mut config.shim, arguments.shim.clone());
    set(&mut config.gc.automatic, arguments.no_automatic_gc.then_some(false));
    set(&mut config.criu_path, arguments.criu_path.clone());
    set(&mut config.cdi_directories, (!arguments.cdi_dir.is_empty()).then(|| arguments.cdi_dir.clone()));
    check(&config)?;
    Ok(config)
}

fn set<T>(into: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *into = value;
    }
}

fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("configuration {} is malformed", path.display()))
}

/// SYS-1: both directories are needed, absolute and different.
fn check(config: &Config) -> anyhow::Result<()> {
    for (what, path) in [("root", &config.root), ("state", &config.state)] {
        if !path.is_absolute() {
            bail!("{what} directory {} must be an absolute path", path.display());
        }
    }
    if config.root == config.state {
        bail!("root and state are both {}: they must differ", config.root.display());
    }
    if !config.cgroup_parent.starts_with('/') || config.cgroup_parent.split('/').any(|part| part == "..") {
        bail!("cgroup parent {:?} must start with '/' and must not contain '..'", config.cgroup_parent);
    }
    if !(0.0..=0.5).contains(&config.gc.pause_threshold) {
        bail!("gc.pause_threshold {} must be from 0 to 0.5", config.gc.pause_threshold);
    }
    if config.criu_path.is_empty() || (config.criu_path.contains('/') && !config.criu_path.starts_with('/')) {
        bail!("criu_path {:?} must be a name or an absolute path", config.criu_path);
    }
    config.metrics_address()?;
    config.socket_mode().map(drop)
}

/// Runs a printing sub-command.
#[expect(clippy::print_stdout, reason = "the command's output")]
pub fn print(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Config(ConfigCommand::Default) => {
            println!("{}", toml::to_string_pretty(&Config::default())?)
        }
        Command::Probe { directory } => {
            for (name, failure) in crate::probe::all(directory) {
                println!("{name}\t{}", failure.as_deref().unwrap_or("ok").replace('\n', " "));
            }
        }
        Command::CrashPoints => crate::wiring::crash_points().iter().for_each(|point| println!("{point}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_4_the_printed_default_reads_back() {
        let text = toml::to_string_pretty(&Config::default()).expect("prints");
        assert_eq!(toml::from_str::<Config>(&text).expect("reads"), Config::default());
    }

    #[test]
    fn sys_1_root_and_state_must_differ() {
        let arguments = Arguments::parse_from(["bosund", "--root", "/a", "--state", "/a"]);
        assert!(load(&arguments).expect_err("same").to_string().contains("must differ"));
    }

    #[test]
    fn tsk_10_criu_is_a_name_or_an_absolute_path() {
        let load = |path: &str| load(&Arguments::parse_from(["bosund", "--criu-path", path]));
        assert_eq!(load("/opt/criu").expect("good").criu_path, "/opt/criu");
        assert!(load("bin/criu").expect_err("relative").to_string().contains("criu_path"));
    }

    #[test]
    fn met_1_the_metrics_address_is_off_or_an_address_and_a_port() {
        let load = |words: &[&str]| load(&Arguments::parse_from([&["bosund"], words].concat()));
        assert_eq!(load(&[]).and_then(|it| it.metrics_address()).expect("off"), None);
        let good = load(&["--metrics-address", "127.0.0.1:1338"]).and_then(|it| it.metrics_address());
        assert_eq!(good.expect("good").map(|address| address.port()), Some(1338));
        assert!(
            load(&["--metrics-address", "localhost"]).expect_err("no port").to_string().contains("IP:PORT")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_and_named() {
        let error = toml::from_str::<Config>("rooot = \"/x\"").expect_err("unknown key");
        assert!(error.to_string().contains("rooot"), "{error}");
    }
}
