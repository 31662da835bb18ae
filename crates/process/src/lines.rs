//! Cutting a stream of bytes into lines.

/// The longest piece of a line that is handed on at once, in bytes.
pub(super) const LONGEST_PIECE: usize = 16 * 1024;

/// Cuts what it is fed at line feeds, and after [`LONGEST_PIECE`] bytes without one.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not been seen.
    partial: Vec<u8>,
}

impl Lines {
    /// Takes in bytes; `emit` gets each piece without its line feed, and whether the same line
    /// goes on in the next piece.
    pub(super) fn feed(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (mut head, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest.strip_prefix(b"\n").unwrap_or(rest);
            while self.partial.len() + head.len() > LONGEST_PIECE {
                let (piece, later) = head.split_at(LONGEST_PIECE - self.partial.len());
                self.join(piece, true, emit);
                head = later;
            }
            if end.is_some() {
                self.join(head, false, emit);
            } else {
                self.partial.extend_from_slice(head);
            }
        }
    }

    /// The stream is over, or silent for good: a line without a line feed is a line too.
    pub(super) fn flush(&mut self, emit: &mut impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            self.join(&[], false, emit);
        }
    }

    /// Most lines lie within one read and are handed on without a copy.
    fn join(&mut self, tail: &[u8], continues: bool, emit: &mut impl FnMut(&[u8], bool)) {
        if self.partial.is_empty() {
            emit(tail, continues);
        } else {
            self.partial.extend_from_slice(tail);
            emit(&self.partial, continues);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        let mut emit = |piece: &[u8], continues| out.push((piece.to_vec(), continues));
        for chunk in chunks {
            lines.feed(chunk, &mut emit);
        }
        lines.flush(&mut emit);
        out
    }

    #[test]
    fn lines_are_put_together_from_any_reads() {
        let expected = [(b"one".to_vec(), false), (b"two".to_vec(), false)];
        assert_eq!(cut(&[b"one\ntwo\n"]), expected);
        assert_eq!(cut(&[b"o", b"ne", b"\n", b"two"]), expected);
    }

    #[test]
    fn an_empty_line_is_a_line_and_bytes_are_kept_as_they_are() {
        assert_eq!(
            cut(&[b"\n\xff\r\n"]),
            [(Vec::new(), false), (b"\xff\r".to_vec(), false)]
        );
    }

    #[test]
    fn a_long_line_comes_in_bounded_pieces() {
        let long = vec![b'x'; 2 * LONGEST_PIECE + 1];
        let sizes = |chunks: &[&[u8]]| -> Vec<_> {
            cut(chunks)
                .iter()
                .map(|(piece, continues)| (piece.len(), *continues))
                .collect()
        };
        let pieces = [(LONGEST_PIECE, true), (LONGEST_PIECE, true), (1, false)];
        assert_eq!(sizes(&[&long, b"\n"]), pieces);
        assert_eq!(sizes(&long.chunks(1000).collect::<Vec<_>>()), pieces);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_piece() {
        let line = [&[b'x'; LONGEST_PIECE][..], b"\n"].concat();
        assert_eq!(cut(&[&line]).len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added_however_the_reads_fall(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            step in 1_usize..50,
        ) {
            let mut joined = Vec::new();
            for (piece, continues) in cut(&bytes.chunks(step).collect::<Vec<_>>()) {
                joined.extend_from_slice(&piece);
                if !continues {
                    joined.push(b'\n');
                }
            }
            let mut expected = bytes;
            if !expected.is_empty() && !expected.ends_with(b"\n") {
                expected.push(b'\n');
            }
            prop_assert_eq!(joined, expected);
        }
    }

    #[test]
    fn a_line_of_sixteen_kibibytes_is_one_piece() {
        let mut pieces = Vec::new();
        let mut emit = |piece: &[u8], goes_on| pieces.push((piece.len(), goes_on));
        Lines::default().feed(&[&[b'x'; 16_384][..], b"\n"].concat(), &mut emit);
        Lines::default().feed(&[&[b'x'; 16_385][..], b"\n"].concat(), &mut emit);
        assert_eq!(pieces, [(16_384, false), (16_384, true), (1, false)]);
    }
}
