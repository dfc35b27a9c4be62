//! Sixty-four bits for a world, quickly, and the same on every machine and in every run.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Odd and without pattern: the fractions of the golden ratio and of the square root of two.
const START: u64 = 0x9E37_79B9_7F4A_7C15;
const FACTOR: u64 = 0x6A09_E667_F3BC_C909;

/// Gathers eight bytes at a time, multiplies, and folds the upper half of the product into the
/// lower. What is hashed always has the same shape, so lengths are left out.
#[derive(Clone, Copy)]
pub struct Mix {
    folded: u64,
    gathered: u64,
    count: u32,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { folded: START, gathered: 0, count: 0 }
    }
}

impl Mix {
    fn fold(&mut self, n: u64) {
        let product = u128::from(self.folded ^ n.wrapping_add(START)) * u128::from(FACTOR);
        self.folded = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.fold(self.gathered);
        last.fold(u64::from(self.count));
        last.folded
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u8(*b));
    }

    fn write_u8(&mut self, n: u8) {
        self.gathered = self.gathered << 8 | u64::from(n);
        self.count += 1;
        if self.count == 8 {
            self.fold(self.gathered);
            (self.gathered, self.count) = (0, 0);
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.fold(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.fold(n);
    }

    // Which variant of an enum.
    fn write_isize(&mut self, n: isize) {
        self.write_u8(n as u8);
    }

    // How long an array is.
    fn write_usize(&mut self, _: usize) {}
}

/// For maps whose keys we make ourselves.
pub type Quick = BuildHasherDefault<Mix>;

/// Of anything whose parts always have the same lengths.
pub fn fingerprint(it: &impl Hash) -> u64 {
    let mut mix = Mix::default();
    it.hash(&mut mix);
    mix.finish()
}
