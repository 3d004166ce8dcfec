//! Links between nodes: which are cut, how long a letter takes, and in which order letters arrive.
//!
//! Not here: what a letter does (`world.rs`), and who is dead.

use super::plan::Weather;
use crate::message::Lane;
use fastrand::Rng;

/// The most nodes of a run.
pub const NODES_MAX: usize = 8;
const LANES: usize = 3;

/// What becomes of one copy of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody hears of it.
    Lost,
    /// The sender hears that the connection was reset.
    Reset,
    /// It arrives then. Microseconds from the start of the run.
    Arrives(u64),
}

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    /// How many faults cut the way from one node to another.
    cuts: [[u8; NODES_MAX]; NODES_MAX],
    /// When the last letter of a lane arrives, so that the next comes no earlier.
    last: [[[u64; LANES]; NODES_MAX]; NODES_MAX],
    /// How many times as long letters from and to a node take.
    slowness: [u32; NODES_MAX],
    /// Whose letters get lost.
    is_lossy: [bool; NODES_MAX],
}

impl Network {
    /// All links whole.
    #[must_use]
    pub fn new() -> Self {
        let last = [[[0; LANES]; NODES_MAX]; NODES_MAX];
        Self { cuts: [[0; NODES_MAX]; NODES_MAX], last, slowness: [1; NODES_MAX], is_lossy: [false; NODES_MAX] }
    }

    /// Cuts one direction, once more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from][to] = self.cuts[from][to].saturating_add(1);
    }

    /// Takes one cut back.
    pub fn heal(&mut self, from: usize, to: usize) {
        self.cuts[from][to] = self.cuts[from][to].saturating_sub(1);
    }

    /// Takes all cuts back.
    pub fn heal_all(&mut self) {
        self.cuts = [[0; NODES_MAX]; NODES_MAX];
    }

    /// Letters from and to this node take so many times as long.
    pub fn slow_down(&mut self, node: usize, slowness: u32) {
        self.slowness[node] = slowness;
    }

    /// Half of the letters from and to this node get lost, or none.
    pub fn make_lossy(&mut self, node: usize, is_lossy: bool) {
        self.is_lossy[node] = is_lossy;
    }

    /// How many times as long a letter takes on this way.
    #[must_use]
    pub fn slowness(&self, from: usize, to: usize) -> u64 {
        self.slowness[from].max(self.slowness[to]).into()
    }

    /// Whether letters get through in this direction.
    #[must_use]
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.cuts[from][to] == 0
    }

    /// Draws what becomes of one copy of a letter that is sent now.
    pub fn fate(&mut self, rng: &mut Rng, weather: &Weather, now: u64, way: (usize, usize, Lane)) -> Fate {
        let (from, to, lane) = way;
        if !self.is_open(from, to) || happens(rng, weather.loss_ppm) {
            return Fate::Lost;
        }
        if self.is_lossy[from] || self.is_lossy[to] {
            match rng.u8(0..32) {
                0..=15 => return Fate::Lost,
                16 => return Fate::Reset,
                _ => {}
            }
        }
        if happens(rng, weather.reset_ppm) {
            return Fate::Reset;
        }
        let at = now + (20 + rng.u64(0..=weather.delay_us)) * self.slowness(from, to);
        if happens(rng, weather.late_ppm) {
            return Fate::Arrives(at + rng.u64(0..=weather.late_us));
        }
        if weather.overtake {
            return Fate::Arrives(at);
        }
        let last = &mut self.last[from][to][lane as usize];
        *last = at.max(*last + 1);
        Fate::Arrives(*last)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// Draws whether something happens that does so many times in a million.
pub fn happens(rng: &mut Rng, ppm: u32) -> bool {
    ppm > 0 && rng.u32(0..super::plan::PPM) < ppm
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Plan, Shape};
    use super::*;

    #[test]
    fn a_link_is_cut_in_one_direction_until_every_cut_is_taken_back() {
        let mut network = Network::new();
        network.cut(0, 1);
        network.cut(0, 1);
        assert!(!network.is_open(0, 1) && network.is_open(1, 0));
        network.heal(0, 1);
        assert!(!network.is_open(0, 1));
        network.heal(0, 1);
        assert!(network.is_open(0, 1));
    }

    #[test]
    fn a_lane_keeps_its_order_in_calm_weather() {
        let (mut network, mut rng) = (Network::new(), Rng::with_seed(1));
        let calm = Plan::new(1, Shape::default()).weather.calm();
        let mut last = 0;
        for now in 0..1_000 {
            let Fate::Arrives(at) = network.fate(&mut rng, &calm, now, (0, 1, Lane::Work)) else {
                panic!("lost in calm weather")
            };
            assert!(at > last && at > now);
            last = at;
        }
    }
}
