//! The random numbers of a plan: the same seed gives the same numbers, on every machine and for ever.

/// A generator of the kind `SplitMix64` (Steele, Lea and Flood, 2014).
///
/// Its state is one number that grows by a constant, and each number is a mix of the state. That is
/// plenty for choosing steps, and short enough to stay as it is: a seed that failed must lead to the same
/// plan in years.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// The odd number that is closest to 2^64 divided by the golden ratio.
const GROWTH: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Begins at a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number.
    pub const fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GROWTH);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0 if that is 0. The lower ones are preferred by less than one in 2^50.
    pub const fn below(&mut self, end: u64) -> u64 {
        let number = self.number();
        if end == 0 { 0 } else { number % end }
    }

    /// Returns true in so many of a hundred calls.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the values, each as often as its weight says; nothing without weight.
    pub fn weighted<'a, T>(&mut self, values: &'a [(u64, T)]) -> Option<&'a T> {
        let sum = values.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(sum);
        values.iter().find_map(|(weight, value)| {
            if left < *weight {
                return Some(value);
            }
            left -= weight;
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers that the authors' own program prints for the seed 1234567.
    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let numbers = [(); 3].map(|()| random.number());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new(1);
        let values = [(1, 'a'), (0, 'b'), (3, 'c')];
        let drawn: Vec<_> = (0..4_000)
            .map(|_| *random.weighted(&values).unwrap())
            .collect();
        let count = |wanted| drawn.iter().filter(|drawn| **drawn == wanted).count();
        assert!((900..1_100).contains(&count('a')), "{}", count('a'));
        assert_eq!(count('b'), 0);
        assert_eq!(random.weighted::<char>(&[]), None);
    }
}
