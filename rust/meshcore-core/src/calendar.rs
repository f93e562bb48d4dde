//! The calendar's time as messages and logs write it: the caller reads the clock.

use std::fmt;

/// The value of a `date` field (RFC 9110 §5.6.7, §6.6.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date of a Unix time, up to the year 9999. O(1).
    #[must_use]
    pub fn new(unix_s: u64) -> Self {
        const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed"; // 1970 began with a Thursday
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let days = unix_s / 86_400;
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let weekday = 3 * (days % 7) as usize;
        text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
        two(&mut text, 5, day);
        let name = 3 * (month - 1) as usize;
        text[8..11].copy_from_slice(&MONTHS[name..name + 3]);
        two(&mut text, 12, year / 100);
        two(&mut text, 14, year);
        two(&mut text, 17, unix_s / 3600 % 24);
        two(&mut text, 20, unix_s / 60 % 60);
        two(&mut text, 23, unix_s % 60);
        Self(text)
    }

    /// What is written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

fn two(text: &mut [u8; 29], at: usize, number: u64) {
    text[at] = b'0' + (number / 10 % 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// The last date that was asked for: it is rendered once a second.
#[derive(Clone, Copy, Debug)]
pub struct DateCache {
    unix_s: u64,
    date: HttpDate,
}

impl Default for DateCache {
    fn default() -> Self {
        Self { unix_s: 0, date: HttpDate::new(0) }
    }
}

impl DateCache {
    /// The date at a Unix time.
    #[inline]
    pub fn at(&mut self, unix_s: u64) -> HttpDate {
        if self.unix_s != unix_s {
            *self = Self { unix_s, date: HttpDate::new(unix_s) };
        }
        self.date
    }
}

/// Year, month and day of a number of days since 1970, by Hinnant's `civil_from_days`.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (era * 400 + yoe + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_http_writes_them() {
        let mut cache = DateCache::default();
        for (unix_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // RFC 9110 §5.6.7
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (1_798_761_600, "Fri, 01 Jan 2027 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(HttpDate::new(unix_s).as_bytes(), text.as_bytes());
            assert_eq!(cache.at(unix_s), HttpDate::new(unix_s));
            assert_eq!(cache.at(unix_s), HttpDate::new(unix_s));
        }
    }

    #[test]
    fn days_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_786, (2026, 11, 29)),
        ] {
            assert_eq!(civil(days), date);
        }
    }
}
