//! The rise of errors that a probation allows, as a share.

use handover_supervisor::operator::ErrorRise;

/// Reads `5%` or `0.25%`.
pub(super) fn parse_percent(text: &str) -> Result<ErrorRise, String> {
    let wrong = || "write a number up to 100 with a percent sign, such as 5% or 0.5%".to_owned();
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(rest) || rest.len() > 2 {
        return Err(wrong());
    }
    let whole: u16 = whole.parse().map_err(|_| wrong())?;
    let rest: u16 = format!("{rest:0<2}").parse().map_err(|_| wrong())?;
    let hundredths = whole.checked_mul(100).and_then(|it| it.checked_add(rest));
    hundredths
        .and_then(ErrorRise::from_hundredths)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_told_in_percent() {
        let rise = |hundredths| Ok(ErrorRise::from_hundredths(hundredths).unwrap());
        assert_eq!(parse_percent("5%"), rise(500));
        assert_eq!(parse_percent(" 0.5 % "), rise(50));
        assert_eq!(parse_percent("0.25%"), rise(25));
        assert_eq!(parse_percent("0%"), rise(0));
        assert_eq!(parse_percent("100%"), rise(10_000));
        for bad in [
            "5", "", "%", "-1%", "100.01%", "101%", "0.123%", "1.%", ".5%", "70000%", "5%%",
        ] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
