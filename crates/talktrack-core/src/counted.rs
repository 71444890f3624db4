//! Numbers of things in words.

use std::fmt::Display;

/// Returns a number with the name of what it counts: `1 message`, `2 messages`. `one` is the singular, whose plural ends in
/// `s`.
pub fn counted(number: impl Display, one: &str) -> String {
    let number = number.to_string();
    let ending = if number == "1" { "" } else { "s" };
    format!("{number} {one}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let told = [0, 1, 2, 11].map(|number| counted(number, "dead letter"));
        assert_eq!(told, ["0 dead letters", "1 dead letter", "2 dead letters", "11 dead letters"]);
    }
}
