//! Replays a corpus, many seeded mutations of it, and noise through a fuzz body, which must not panic.
//!
//! The suites of the protocol crates include this file. `HOMEFLEET_FUZZ_ROUNDS` says how many mutations (`make fuzz`); every run of the same
//! number does the same.

use std::path::Path;

/// The files in `fuzz/corpus/<folder>`, in the order of their names.
pub(crate) fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has the corpus", folder.display());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Runs `body` over `seeds`, and over `rounds` mutations of them and as many noises.
pub(crate) fn replay(seeds: &[Vec<u8>], rounds: usize, body: impl Fn(&[u8])) {
    let rounds = match std::env::var("HOMEFLEET_FUZZ_ROUNDS") {
        Ok(text) => text.parse().expect("HOMEFLEET_FUZZ_ROUNDS is a number"),
        Err(_) => rounds,
    };
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in seeds {
        body(seed);
    }
    for round in 0..rounds {
        let other = &seeds[random.below(seeds.len())];
        body(&random.mutate(&seeds[round % seeds.len()], other));
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        body(&noise);
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(5) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.insert(at, self.byte()),
                1 if at < bytes.len() => {
                    bytes.remove(at);
                }
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 if at < bytes.len() => bytes[at] = self.byte(),
                4 => bytes.truncate(at),
                _ => {
                    let from = self.below(other.len());
                    let piece = &other[from..(from + self.below(40)).min(other.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }
}
