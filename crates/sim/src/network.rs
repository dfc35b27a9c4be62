//! Links between hosts, one direction each.
//!
//! Words between agents may be lost, late, twice or out of order. Connections of
//! PostgreSQL are TCP's: in order and whole, or broken after a while.

use crate::clock::{Us, ms};
use crate::rng::Rng;

/// A host's place in the world.
pub type At = usize;

/// How links behave while nobody cuts them.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least delay of one way.
    pub delay: Us,
    /// Most that chance adds to it.
    pub jitter: Us,
    /// Words between agents lost, per mille.
    pub loss: u64,
    /// Words between agents that come twice, per mille.
    pub twice: u64,
    /// Words that take up to a third of a second longer, per mille.
    pub stray: u64,
}

impl Weather {
    /// Nothing but a millisecond of way.
    #[must_use]
    pub const fn calm() -> Weather {
        Weather { delay: ms(1), jitter: 0, loss: 0, twice: 0, stray: 0 }
    }
}

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    size: usize,
    cut: Vec<u32>,
    closed: Vec<u32>,
    lossy: Vec<u64>,
    /// How links behave.
    pub weather: Weather,
}

impl Network {
    /// Links that work, between nobody yet.
    #[must_use]
    pub fn new(weather: Weather) -> Network {
        Network { size: 0, cut: Vec::new(), closed: Vec::new(), lossy: Vec::new(), weather }
    }

    /// Room for `size` hosts; links that are there stay as they are.
    pub fn resize(&mut self, size: usize) {
        let old = self.clone();
        self.size = size;
        self.cut = vec![0; size * size];
        self.closed = vec![0; size * size];
        self.lossy = vec![0; size * size];
        for a in 0..old.size {
            for b in 0..old.size {
                self.cut[a * size + b] = old.cut[a * old.size + b];
                self.closed[a * size + b] = old.closed[a * old.size + b];
                self.lossy[a * size + b] = old.lossy[a * old.size + b];
            }
        }
    }

    /// Cuts the way from `a` to `b`, once more if it is cut already.
    pub fn cut(&mut self, a: At, b: At) {
        self.cut[a * self.size + b] += 1;
    }

    /// Takes back one cut.
    pub fn mend(&mut self, a: At, b: At) {
        let cuts = &mut self.cut[a * self.size + b];
        *cuts = cuts.saturating_sub(1);
    }

    /// Closes the port of the PostgreSQL at `b` for `a`, once more if it is closed already.
    pub fn close(&mut self, a: At, b: At) {
        self.closed[a * self.size + b] += 1;
    }

    /// Takes that back once.
    pub fn open(&mut self, a: At, b: At) {
        let closed = &mut self.closed[a * self.size + b];
        *closed = closed.saturating_sub(1);
    }

    /// Loses so many per mille of the words from `a` to `b`.
    pub fn lose(&mut self, a: At, b: At, per_mille: u64) {
        self.lossy[a * self.size + b] = per_mille;
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.cut.fill(0);
        self.closed.fill(0);
        self.lossy.fill(0);
    }

    /// Whether anything gets from `a` to `b`.
    #[must_use]
    pub fn passes(&self, a: At, b: At) -> bool {
        a == b || self.cut[a * self.size + b] == 0
    }

    /// Whether `a` and `b` can hold a connection.
    #[must_use]
    pub fn both(&self, a: At, b: At) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Whether `a` and the PostgreSQL at `b` can hold a connection.
    #[must_use]
    pub fn connects(&self, a: At, b: At) -> bool {
        self.both(a, b) && (a == b || self.closed[a * self.size + b] == 0)
    }

    /// Whether anything gets from `from` to `to` on a connection that `a` made to the
    /// PostgreSQL at `b`.
    #[must_use]
    pub fn carries(&self, a: At, b: At, from: At, to: At) -> bool {
        self.passes(from, to) && (a == b || self.closed[a * self.size + b] == 0)
    }

    /// How long one way takes this time.
    pub fn delay(&self, rng: &mut Rng) -> Us {
        self.weather.delay + rng.below(self.weather.jitter + 1)
    }

    /// When copies of a word from one agent to another come in: none if it is lost.
    pub fn word(&self, a: At, b: At, rng: &mut Rng) -> [Option<Us>; 2] {
        let loss = self.weather.loss.max(self.lossy[a * self.size + b]);
        if loss > 0 && rng.chance(loss) {
            return [None, None];
        }
        let stray = self.weather.stray > 0 && rng.chance(self.weather.stray);
        let late = if stray { rng.below(ms(330)) } else { 0 };
        let first = self.delay(rng) + late;
        let twice = self.weather.twice > 0 && rng.chance(self.weather.twice);
        let again = twice.then(|| first + rng.below(ms(400)));
        [Some(first), again]
    }
}
