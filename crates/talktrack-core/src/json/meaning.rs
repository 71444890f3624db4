//! Compares the meaning of two JSON texts. Databases write JSON in their own way: with the keys in another order, or
//! `100` for `1e2`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// True if two valid JSON texts mean the same value. Numbers are compared as decimals of any length.
pub(super) fn is_same_value(one: &str, other: &str) -> bool {
    one == other || compare_parsed(one.trim(), other.trim()).unwrap_or(false)
}

/// Returns `None` if a text is not of the type that its first byte indicates.
fn compare_parsed(one: &str, other: &str) -> Option<bool> {
    Some(match (one.as_bytes().first()?, other.as_bytes().first()?) {
        (b'{', b'{') => parse_members(one)? == parse_members(other)?,
        (b'[', b'[') => parse_elements(one)? == parse_elements(other)?,
        (b'"', b'"') => {
            serde_json::from_str::<String>(one).ok()? == serde_json::from_str::<String>(other).ok()?
        }
        (b't' | b'f' | b'n', _) => one == other,
        _ => Decimal::parse(one)? == Decimal::parse(other)?,
    })
}

/// A value within another one. Two parts are equal if they have the same meaning.
struct NestedValue<'a>(&'a RawValue);

impl PartialEq for NestedValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        is_same_value(self.0.get(), other.0.get())
    }
}

fn parse_members(text: &str) -> Option<BTreeMap<String, NestedValue<'_>>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    Some(members.into_iter().map(|(key, value)| (key, NestedValue(value))).collect())
}

fn parse_elements(text: &str) -> Option<Vec<NestedValue<'_>>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(NestedValue).collect())
}

/// A number as its digits without zeros at either end, and the power of ten of the last digit.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_end_matches('0');
        let dropped = i64::try_from(all.len() - digits.len()).ok()?;
        let power: i64 = power.strip_prefix('+').unwrap_or(power).parse().ok()?;
        let exponent = power.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
        let digits = digits.trim_start_matches('0').to_owned();
        // Zero has neither a sign nor a power.
        let zero = digits.is_empty();
        Some(Self {
            negative: unsigned != mantissa && !zero,
            exponent: if zero { 0 } else { exponent },
            digits,
        })
    }
}
