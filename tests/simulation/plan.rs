//! A simulation in one line: its seed, and the parts that are removed to make a failure smaller.
//!
//! `1234`, or `1234,steps=80,frames=3,peers=0+4,without=late+drain`. The seed determines everything
//! else. Each peer has an Rng of its own, so that it acts the same without the others.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ws_reactor::Config;

use crate::faults::{self, Fault, FaultSet};
use crate::support::rng::Rng;

/// The parameters of a simulation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Rounds before the faults stop and the peers finish.
    pub(crate) steps: usize,
    /// Maximum number of frames per peer.
    pub(crate) frames: usize,
    /// The peers, by number.
    pub(crate) peers: Vec<usize>,
    pub(crate) faults: FaultSet,
}

/// The server's settings, which the seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) config: Config,
    pub(crate) workers: usize,
    /// Large binary messages are streamed, as `Echo` does.
    pub(crate) is_streamed: bool,
}

/// The difference between the seeds of two peers.
const PEER_STRIDE: u64 = 0x1000_0000_0000;

const STEPS_MAX: usize = 250;
const FRAMES_MAX: usize = 24;
const PEERS_MAX: usize = 12;

impl Plan {
    /// The complete plan of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let peers = 1 + Rng::new(seed ^ 1).below(PEERS_MAX);
        Self {
            seed,
            steps: STEPS_MAX,
            frames: FRAMES_MAX,
            peers: (0..peers).collect(),
            faults: FaultSet::all(),
        }
    }

    /// The Rng of peer number `peer`.
    pub(crate) const fn peer_rng(&self, peer: usize) -> Rng {
        Rng::new(self.seed.wrapping_add(PEER_STRIDE.wrapping_mul(peer as u64 + 1)))
    }

    /// The Rng of everything else.
    pub(crate) const fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    pub(crate) fn setting(&self) -> Setting {
        let rng = &mut Rng::new(self.seed ^ 2);
        let message_bytes_max = rng.pick(&[1000, 20_000, 70_000, 70_000, 300_000, 1 << 20]);
        let backlog_bytes_high = rng.pick(&[500, 4000, 16_384, 65_536]);
        let ms = Duration::from_millis;
        let config = Config {
            message_bytes_max,
            fragments_max: rng.pick(&[4, 100, 131_072]),
            request_bytes_max: rng.pick(&[1024, 8192]),
            handshake_timeout: ms(rng.pick(&[200, 1000, 10_000])),
            idle_timeout: ms(rng.pick(&[400, 3000, 20_000, 120_000])),
            ping_interval: ms(rng.pick(&[0, 100, 1000, 25_000])),
            close_timeout: ms(rng.pick(&[100, 1000, 5000])),
            backlog_bytes_high,
            backlog_bytes_low: rng.pick(&[0, 1, backlog_bytes_high / 4, backlog_bytes_high]),
            backlog_bytes_max: backlog_bytes_high + rng.pick(&[0, 10_000, 1 << 20]),
            connections_max: rng.pick(&[None, None, None, Some(3)]),
            listen_backlog: 64,
            mailbox_bytes_max: rng.pick(&[1, 300, 1 << 20]),
            ..Config::default()
        };
        Setting { config, workers: rng.pick(&[1, 1, 1, 2, 3]), is_streamed: rng.below(3) > 0 }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Self::new(self.seed);
        write!(f, "{}", self.seed)?;
        if self.steps != all.steps {
            write!(f, ",steps={}", self.steps)?;
        }
        if self.frames != all.frames {
            write!(f, ",frames={}", self.frames)?;
        }
        if self.peers != all.peers {
            let peers: Vec<_> = self.peers.iter().map(usize::to_string).collect();
            write!(f, ",peers={}", peers.join("+"))?;
        }
        let without: Vec<_> =
            faults::ALL.iter().filter(|fault| !self.faults.has(**fault)).collect();
        if !without.is_empty() {
            let without: Vec<_> = without.into_iter().map(Fault::to_string).collect();
            write!(f, ",without={}", without.join("+"))?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a number"));
        let mut parts = text.split(',');
        let seed = parts.next().unwrap_or_default();
        let seed = seed.parse().map_err(|_| format!("`{seed}` is not a seed"))?;
        let mut plan = Self::new(seed);
        for part in parts {
            match part.split_once('=') {
                Some(("steps", count)) => plan.steps = number(count)?,
                Some(("frames", count)) => plan.frames = number(count)?,
                Some(("peers", peers)) => {
                    plan.peers = peers.split('+').map(number).collect::<Result<_, _>>()?;
                }
                Some(("without", faults)) => {
                    for name in faults.split('+') {
                        let fault = faults::ALL.iter().find(|fault| fault.to_string() == name);
                        let fault = fault.ok_or_else(|| format!("`{name}` is not a fault"))?;
                        plan.faults = plan.faults.without(*fault);
                    }
                }
                _ => return Err(format!("`{part}` is not a part of a plan")),
            }
        }
        Ok(plan)
    }
}

#[test]
fn a_plan_is_printed_and_parsed_without_loss() {
    for text in ["7", "7,steps=3,frames=2,peers=0,without=late+drain"] {
        assert_eq!(text.parse::<Plan>().map(|plan| plan.to_string()).as_deref(), Ok(text));
    }
}
