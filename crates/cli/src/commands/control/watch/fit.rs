//! How the screen is shared out. What matters most gets its lines first.

use ratatui::text::Line;

/// The lines of a frame above and below what is in it.
pub(super) const FRAME: u16 = 2;
/// The times below the epochs, and the key of the signs.
pub(super) const SCALE: u16 = 2;

/// How many lines each part would have, without its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) head: u16,
    /// One for each epoch.
    pub(super) epochs: u16,
    pub(super) running: u16,
    pub(super) desired: u16,
}

/// How high each part is, with its frame. One that has no room has no height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heights {
    pub(super) head: u16,
    pub(super) line: u16,
    pub(super) running: u16,
    pub(super) desired: u16,
    /// What has happened gets what is left.
    pub(super) happened: u16,
    pub(super) foot: u16,
}

/// Shares out a height: the last line says how to leave, then come the verdict, one event, the newest epoch, what
/// runs, what is desired, and the other epochs.
pub(super) fn fit(height: u16, wanted: Wanted) -> Heights {
    let mut left = height;
    let mut take = |wanted: u16, least: u16| {
        let taken = if left >= least { wanted.min(left) } else { 0 };
        left -= taken;
        taken
    };
    let foot = take(1, 1);
    let event = FRAME + 1;
    // A long message leaves room for an event.
    let most = height.saturating_sub(foot + event).max(height / 2);
    let head = take(wanted.head.min(most), 1);
    let happened = take(event, event);
    let one = FRAME + SCALE + 1;
    let line = take(one, one);
    let running = wanted.running.saturating_add(FRAME);
    // The head of the table, and one row.
    let running = take(running, running.min(FRAME + 2));
    let desired = wanted.desired.saturating_add(FRAME);
    let desired = take(desired, desired);
    let others = match line {
        0 => 0,
        _ => take(wanted.epochs.saturating_sub(1), 1),
    };
    Heights {
        head,
        line: line + others,
        running,
        desired,
        happened: happened + if happened == 0 { 0 } else { left },
        foot,
    }
}

/// How many lines this line is once it is wrapped at the spaces between its words.
pub(super) fn wrapped(line: &Line<'_>, width: u16) -> u16 {
    let width = usize::from(width).max(1);
    let text: String = line.spans.iter().map(|span| &*span.content).collect();
    let (mut lines, mut used) = (1_u16, None::<usize>);
    for word in text.split(' ') {
        let word = Line::from(word).width();
        let mut end = used.map_or(word, |used| used + 1 + word);
        if used.is_some() && end > width {
            (lines, end) = (lines.saturating_add(1), word);
        }
        while end > width {
            (lines, end) = (lines.saturating_add(1), end - width);
        }
        used = Some(end);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        head: 8,
        epochs: 6,
        running: 3,
        desired: 3,
    };

    fn parts(heights: Heights) -> [u16; 6] {
        let Heights {
            head,
            line,
            running,
            desired,
            happened,
            foot,
        } = heights;
        [head, line, running, desired, happened, foot]
    }

    #[test]
    fn a_small_screen_has_the_verdict_an_event_and_the_keys() {
        assert_eq!(parts(fit(50, WANTED)), [8, 10, 5, 5, 21, 1]);
        assert_eq!(parts(fit(28, WANTED)), [8, 6, 5, 5, 3, 1]);
        assert_eq!(parts(fit(24, WANTED)), [8, 7, 5, 0, 3, 1]);
        assert_eq!(parts(fit(12, WANTED)), [8, 0, 0, 0, 3, 1]);
        assert_eq!(parts(fit(1, WANTED)), [0, 0, 0, 0, 0, 1]);
        let long = Wanted {
            head: 100,
            ..WANTED
        };
        assert_eq!(parts(fit(24, long)), [20, 0, 0, 0, 3, 1]);
    }

    #[test]
    fn no_more_is_shared_out_than_there_is() {
        for height in (0..200).chain([u16::MAX]) {
            for many in [0, 1, 7, 40, u16::MAX] {
                let wanted = Wanted {
                    head: many,
                    epochs: many,
                    running: many,
                    desired: many,
                };
                let sum: u32 = parts(fit(height, wanted)).into_iter().map(u32::from).sum();
                assert!(sum <= u32::from(height), "{height} {many}: {sum}");
            }
        }
    }

    #[test]
    fn a_line_is_wrapped_at_its_words() {
        let lines = |text: &'static str, width| wrapped(&Line::from(text), width);
        assert_eq!(lines("", 10), 1);
        assert_eq!(lines("one two", 7), 1);
        assert_eq!(lines("one two", 6), 2);
        assert_eq!(lines("one two three", 5), 3);
        assert_eq!(lines("abcdefghij", 4), 3);
        assert_eq!(lines("a bcdefghij", 4), 4);
        assert_eq!(lines("any", 0), 3);
    }
}
