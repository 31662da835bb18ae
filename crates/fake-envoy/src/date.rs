//! Calendar dates of Unix times, for logs and the `date` header.

use std::fmt;

/// A moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    year: u64,
    month: usize,
    day: u64,
    weekday: usize,
    second_of_day: u64,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Date {
    /// Returns the date of a Unix time in seconds.
    pub(crate) fn of(unix: u64) -> Self {
        let days = unix / 86_400;
        let mut year = 1970;
        let mut left = days;
        while left >= days_of_year(year) {
            left -= days_of_year(year);
            year += 1;
        }
        let lengths = [
            31,
            days_of_year(year) - 337,
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ];
        let mut month = 0;
        for length in lengths {
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        Self {
            year,
            month,
            day: left + 1,
            weekday: usize::try_from(days % 7).unwrap_or_default(),
            second_of_day: unix % 86_400,
        }
    }

    /// Returns the date as HTTP writes it.
    pub(crate) fn http(self) -> String {
        let weekday = WEEKDAYS.get(self.weekday).copied().unwrap_or_default();
        let month = MONTHS.get(self.month).copied().unwrap_or_default();
        let (day, year) = (self.day, self.year);
        format!("{weekday}, {day:02} {month} {year} {} GMT", self.time())
    }

    fn time(self) -> String {
        let (hour, rest) = (self.second_of_day / 3600, self.second_of_day % 3600);
        format!("{hour:02}:{:02}:{:02}", rest / 60, rest % 60)
    }
}

fn days_of_year(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = (self.year, self.month + 1, self.day);
        write!(f, "{year}-{month:02}-{day:02} {}", self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, log, http) in [
            (0, "1970-01-01 00:00:00", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (
                951_782_399,
                "2000-02-28 23:59:59",
                "Mon, 28 Feb 2000 23:59:59 GMT",
            ),
            (
                951_868_799,
                "2000-02-29 23:59:59",
                "Tue, 29 Feb 2000 23:59:59 GMT",
            ),
            (
                1_795_765_989,
                "2026-11-27 07:53:09",
                "Fri, 27 Nov 2026 07:53:09 GMT",
            ),
        ] {
            assert_eq!(Date::of(unix).to_string(), log);
            assert_eq!(Date::of(unix).http(), http);
        }
    }
}
