//! What a run is asked to do: the command line, checked.

use super::super::Failure;
use super::super::api;
use super::connection::Gateway;
use super::process::{self, Process};
use super::stage::PRELOAD_CLIENTS;
use super::text::SIZE_MIN;
use super::work::{Mix, Work};
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

/// How many messages reads find when nobody says.
const PRELOAD: u64 = 1_000;
/// The most operations a second.
const RATE_MAX: f64 = 1e6;
/// The longest name that every client's own begins with. Bytes.
const USER_BYTES_MAX: usize = 60;

const EXAMPLES: &str = "\
Examples, beside `lockstep demo`:
  lockstep bench --dir lockstep-data                      posts, 64 clients, each asks again once it is answered
  lockstep bench --work mixed --rate 500 --seconds 60     500 operations a second, whatever the cluster does
  lockstep bench --work history --preload 100000 --channels 10 --gateway http://127.0.0.1:8080,http://127.0.0.1:8081

Closed loop (without --rate): --clients ask again at once, so the load falls when the cluster is slow; it shows how much the
cluster carries. Open loop (--rate): operations are due at even distances, and a late one's wait counts as latency; it
shows what users would feel. --clients is then how many may be under way at once: take enough of them.

Everything that was posted is read back through every gateway in the end. The exit code is 1 when an acknowledged post is
missing, doubled, out of order or changed, when a refused one is there, or when a read did not show what it must.
Messages go to new channels `bench-...`, and stay there: nothing can be deleted.";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// What clients do
    #[arg(long, value_enum, default_value_t = Work::Post)]
    work: Work,
    /// How often each kind comes up in mixed work
    #[arg(long, value_name = "KIND=WEIGHT,...", value_parser = Mix::parse, default_value = "post=20,history=30,message=40,star=10")]
    mix: Mix,
    /// How many clients, each with a connection
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    clients: usize,
    /// Operations a second that are due, whatever the cluster does: an open loop
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Seconds in which operations are counted
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seconds of the same load before that, which are not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,
    /// How long each text is, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(SIZE_MIN as u64..=40_000))]
    size: usize,
    /// Over how many channels messages are spread
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    channels: usize,
    /// Messages that are posted before, for reads to find [default: 1000 unless only posts are measured]
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    preload: Option<u64>,
    /// The gateways, with commas between them; clients take them in turn [default: LOCKSTEP_GATEWAY, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL,...")]
    gateway: Option<String>,
    /// What the clients' user names begin with
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = user)]
    user: String,
    /// A demo's directory: tells what each of its processes costs
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "pids")]
    dir: Option<PathBuf>,
    /// Tells what these processes cost: ids, or files with ids, with commas between them
    #[arg(long, value_name = "PID|FILE,...")]
    pids: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// A checked run.
pub struct Plan {
    /// What is measured.
    pub work: Work,
    /// How often each kind comes up.
    pub mix: Mix,
    /// How many clients.
    pub clients: usize,
    /// Operations a second, of an open loop.
    pub rate: Option<f64>,
    /// How long operations are counted.
    pub lasts: Duration,
    /// How long before that they are not.
    pub warm_up: Duration,
    /// Bytes of text.
    pub size: usize,
    /// How many channels.
    pub channels: usize,
    /// Messages that are posted before.
    pub preload: u64,
    /// Where to ask.
    pub gateways: Vec<Gateway>,
    /// What user names begin with.
    pub user: String,
    /// The processes whose cost is told.
    pub processes: Vec<Process>,
}

impl Plan {
    /// Checks the command line, and finds gateways and processes.
    pub fn new(arguments: Arguments) -> Result<Self, Failure> {
        let Arguments { work, clients, rate, size, channels, user, .. } = arguments;
        let mix = Mix::of(work, arguments.mix);
        let preload = arguments.preload.unwrap_or(if mix.needs_messages() { PRELOAD } else { 0 });
        if preload == 0 && mix.needs_messages() {
            return Err(Failure::new("reads and stars need messages: --preload must not be 0"));
        }
        let processes = match (&arguments.dir, &arguments.pids) {
            (Some(dir), _) => process::in_dir(dir)?,
            (None, Some(list)) => process::listed(list)?,
            (None, None) => Vec::new(),
        };
        let urls = api::gateways(arguments.gateway.as_deref());
        let gateways: Vec<_> = urls.iter().map(|url| gateway(url)).collect::<Result<_, _>>()?;
        if gateways.is_empty() {
            return Err(Failure::new("no gateway is named"));
        }
        let (lasts, warm_up) = (Duration::from_secs(arguments.seconds), Duration::from_secs(arguments.warm_up));
        Ok(Self { work, mix, clients, rate, lasts, warm_up, size, channels, preload, gateways, user, processes })
    }

    /// How many writers there are in all stages.
    pub fn writers(&self) -> usize {
        if self.preload > 0 { self.clients.max(PRELOAD_CLIENTS) } else { self.clients }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, size, channels, preload, .. } = self;
        let way = self.rate.map_or("closed loop".to_owned(), |rate| format!("open loop of {rate} a second"));
        let (seconds, warm_up) = (self.lasts.as_secs(), self.warm_up.as_secs());
        let work = self.work.to_possible_value();
        let work = work.as_ref().map_or("", |work| work.get_name());
        write!(
            f,
            "work: {work}, {way}; {seconds} s after {warm_up} s of warm-up; clients: {clients}; gateways: {}; channels: {channels}; \
             bytes of a text: {size}; messages before: {preload}",
            self.gateways.len()
        )
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.01..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("a rate is a number from 0.01 to {RATE_MAX}"))
}

fn user(text: &str) -> Result<String, String> {
    let fits = (1..=USER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("1 to {USER_BYTES_MAX} visible ASCII characters"))
}

/// `http://host:port`, resolved.
fn gateway(url: &str) -> Result<Gateway, Failure> {
    let wrong = |reason: &str| Failure::new(format!("{url}: {reason}"));
    let name = url.strip_prefix("http://").ok_or_else(|| wrong("only http:// can be measured"))?;
    let with_port = if name.contains(':') { name.to_owned() } else { format!("{name}:80") };
    let mut found = with_port.to_socket_addrs().map_err(|e| wrong(&format!("it is no host and port: {e}")))?;
    let address = found.next().ok_or_else(|| wrong("this host has no address"))?;
    Ok(Gateway { name: name.to_owned(), address })
}
