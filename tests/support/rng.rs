//! The source of randomness of all tests: the same seed gives the same numbers on every machine.

use std::hash::{BuildHasher, RandomState};

/// Splitmix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// A character of each length in UTF-8, with the last one before the surrogates.
pub const CHARACTERS: [char; 6] = ['a', 'Z', 'é', '語', '\u{d7ff}', '🦀'];

/// The seed in the environment variable `SEED`, or else a new one. Prints it, so that a failure can
/// be repeated.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("to repeat this run: SEED={seed}");
    seed
}

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// `len` bytes of UTF-8, of these characters and a few dots at the end.
    pub fn text(&mut self, len: usize, characters: &[char]) -> String {
        let mut text = String::with_capacity(len);
        while text.len() < len {
            let character = self.pick(characters);
            let fits = text.len() + character.len_utf8() <= len;
            text.push(if fits { character } else { '.' });
        }
        text
    }

    /// Cuts `input` into up to nine pieces.
    pub fn cut<'i>(&mut self, input: &'i [u8]) -> Vec<&'i [u8]> {
        let mut cuts: Vec<_> = (0..self.below(9)).map(|_| self.below(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
    }
}
