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

/// The Unix time of a date in a field, in any of the three forms that a recipient must read (RFC 9110
/// §5.6.7); zero before 1970. `now_s` tells the century of the form with two digits for the year. The
/// name of the day is not looked at. O(1).
#[must_use]
pub fn parse_date(text: &[u8], now_s: u64) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| (24..=33).contains(&text.len()))?;
    let mut words = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).skip(1);
    let mut next = || words.next();
    let [first, second, third, fourth] = [next()?, next()?, next()?, next()?];
    let fixed = text.contains(',');
    let (day, month, year, time) =
        if fixed { (first, second, third, fourth) } else { (second, first, fourth, third) };
    let ends = if fixed { next() == Some("GMT") } else { true };
    let month = MONTHS.chunks(3).position(|name| month.as_bytes() == name)? as u64 + 1;
    let year = match year.len() {
        4 => number(year)?,
        2 => century(number(year)?, civil(now_s / 86_400).0),
        _ => return None,
    };
    let mut parts = time.split(':').map(|part| number(part).filter(|_| part.len() == 2));
    let [hour, minute, second] = [parts.next()??, parts.next()??, parts.next()??];
    let day = number(day)?;
    let is_date = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let whole = ends && next().is_none() && parts.next().is_none();
    let days = days(year, month, day);
    (is_date && whole).then(|| days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Short names of the months, three letters each.
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// RFC 9110 §5.6.7: a year that seems to be more than 50 years ahead is the last one with its digits.
const fn century(two_digits: u64, this_year: u64) -> u64 {
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year.saturating_sub(100) } else { year }
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

/// Days since 1970 of a date, zero before; the other way round.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let (era, yoe) = (year / 400, year % 400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_each_form() {
        let now = 1_798_761_600; // 2027
        for (text, unix_s) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Tue, 29 Feb 2000 12:34:56 GMT", 951_827_696),
            ("Friday, 01-Jan-27 00:00:00 GMT", 1_798_761_600),
            ("Friday, 01-Jan-77 00:00:00 GMT", 3_376_684_800),
            ("Sunday, 01-Jan-78 00:00:00 GMT", 252_460_800),
            ("Fri, 31 Dec 1965 23:59:59 GMT", 86_399),
        ] {
            assert_eq!(parse_date(text.as_bytes(), now), Some(unix_s), "{text}");
        }
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT0",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 19945 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994 GMT..",
            "Sun Nov  6 08:49 1994 ........",
        ] {
            assert_eq!(parse_date(text.as_bytes(), now), None, "{text}");
        }
        assert_eq!(parse_date(b"\xff\xff, 06 Nov 1994 08:49:37 GMT", now), None);
    }

    #[test]
    fn every_date_that_is_written_is_read() {
        for unix_s in (0..253_402_300_799).step_by(31_556_952 / 3) {
            assert_eq!(parse_date(HttpDate::new(unix_s).as_bytes(), 0), Some(unix_s));
        }
    }

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
