//! Counts what was not as it must be, and was not held against the supervisor: a run whose excuses grow proves less.

use std::fmt;
use std::time::Duration;

use crate::standstill::{Judgement, Reason};

/// What was excused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excuses {
    /// Pauses of the loop that are too short to need a reason.
    pub short: Pauses,
    /// Pauses while the chaos had stopped the supervisor, or taken its memory.
    pub made: Pauses,
    /// Pauses while the machine stood still.
    pub machine: Pauses,
    /// What the clock of the machine has seen of these last ones. The rest is believed.
    pub seen: Duration,
    /// Requests that were lost beyond what the tables allow, while the machine stood still.
    pub lost: u64,
    /// Looks that found the status ready and clients refused, while a harmed process ran.
    pub unready: u64,
    /// Bursts in which any number of requests may be lost.
    pub outages: u64,
    /// Bursts after which another configuration served than the one that was asked for.
    pub refusals: u64,
}

/// Some pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Pauses {
    fn add(&mut self, length: Duration) {
        self.count += 1;
        self.total += length;
        self.longest = self.longest.max(length);
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, longest] = [self.total, self.longest].map(|time| time.as_secs_f64());
        write!(f, "{} ({total:.1} s, longest {longest:.1} s)", self.count)
    }
}

impl Excuses {
    /// Counts a pause of the loop. One that has no excuse is none.
    pub fn count(&mut self, judgement: &Judgement) {
        match judgement.reason {
            Reason::Short => self.short.add(judgement.length),
            Reason::Made => self.made.add(judgement.length),
            Reason::Machine => {
                self.machine.add(judgement.length);
                self.seen += judgement.seen;
            }
            Reason::Blocked => {}
        }
    }

    /// Returns a text that compares the excuses with a run of this length.
    #[must_use]
    pub fn within(&self, took: Duration) -> String {
        let Self {
            short,
            made,
            machine,
            seen,
            lost,
            unready,
            outages,
            refusals,
        } = self;
        let total = (made.total + machine.total).as_secs_f64();
        let share = 100.0 * total / took.as_secs_f64().max(0.001);
        let seen = seen.as_secs_f64();
        format!(
            "the loop paused for {total:.1} s, {share:.1} % of the run: {made} by the chaos itself, {machine} while the \
             machine stood still, of which its clock saw {seen:.1} s; {short} pauses below a second; {lost} requests lost \
             in standstills; {unready} looks ready and refused beside a harmed process; any loss allowed in {outages} bursts; \
             another configuration served after {refusals}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excuses_are_counted_by_their_reason_and_told_with_their_total() {
        let mut excuses = Excuses {
            lost: 3,
            unready: 2,
            outages: 12,
            refusals: 1,
            ..Excuses::default()
        };
        let pauses = [
            (Reason::Short, 300, 0),
            (Reason::Made, 1_200, 0),
            (Reason::Machine, 2_000, 1_100),
            (Reason::Machine, 4_000, 3_900),
            (Reason::Blocked, 9_000, 0),
        ];
        for (reason, length, seen) in pauses {
            excuses.count(&Judgement {
                reason,
                length: Duration::from_millis(length),
                seen: Duration::from_millis(seen),
            });
        }
        let told = excuses.within(Duration::from_secs(60)).replace("; ", ";\n");
        insta::assert_snapshot!(told, @r"
        the loop paused for 7.2 s, 12.0 % of the run: 1 (1.2 s, longest 1.2 s) by the chaos itself, 2 (6.0 s, longest 4.0 s) while the machine stood still, of which its clock saw 5.0 s;
        1 (0.3 s, longest 0.3 s) pauses below a second;
        3 requests lost in standstills;
        2 looks ready and refused beside a harmed process;
        any loss allowed in 12 bursts;
        another configuration served after 1
        ");
    }
}
