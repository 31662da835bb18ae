//! A small deterministic source of numbers for jitter.

/// A deterministic stream of 64-bit numbers from a seed, for spreading delays.
///
/// The same seed always gives the same numbers, so a run can be repeated, compared and written
/// down. Seed it with a value that differs between processes that must not retry in step. An
/// example is the process id mixed with the start time. It is not for secrets: each number reveals
/// all later ones.
///
/// The algorithm is `SplitMix64` of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators" (OOPSLA 2014): one addition and two multiplications per number, eight bytes of
/// state, no bad seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Returns the stream of `seed`. Every seed is good, 0 included.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number. After 2^64 numbers the stream repeats.
    #[must_use = "the stream moves on, so a number that is not used is lost"]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_algorithm() {
        let mut mixer = SplitMix64::new(1_234_567);
        let numbers: [u64; 5] = core::array::from_fn(|_| mixer.next_u64());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn equal_states_go_on_equally() {
        let mut one = SplitMix64::new(0);
        assert_ne!(one.next_u64(), one.next_u64());
        let mut other = one.clone();
        assert_eq!(one, other);
        assert_eq!(one.next_u64(), other.next_u64());
    }
}
