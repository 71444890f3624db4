//! Finds the pieces of a text that may not be valid JSON, so that an error in one piece does not affect the others.

/// Splits the text of an array into the texts of its elements, which need not be valid JSON themselves. Brackets and strings
/// decide where an element ends. Returns `None` if the text is not one array.
#[doc(hidden)]
pub fn split_array(text: &str) -> Option<Vec<&str>> {
    let inner = text.trim_ascii().strip_prefix('[')?;
    let mut scanner = Scanner::new(inner);
    let mut elements = Vec::new();
    loop {
        let (element, end) = scanner.next_piece(b']')?;
        let is_last = end == b']';
        // An empty array, and nothing else, has one empty element.
        if !(is_last && elements.is_empty() && element.is_empty()) {
            elements.push(element);
        }
        if is_last {
            return scanner.is_at_end().then_some(elements);
        }
    }
}

/// Returns the text of a member's value, although other members may not be valid JSON. `None` if the text does not begin as
/// an object, or has no such member before brackets and strings stop making sense.
#[doc(hidden)]
pub fn find_member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut scanner = Scanner::new(text.trim_ascii().strip_prefix('{')?);
    loop {
        let (member, end) = scanner.next_piece(b'}')?;
        let value = member.strip_prefix('"').and_then(|rest| rest.strip_prefix(name)?.strip_prefix('"'));
        if let Some(value) = value.and_then(|rest| rest.trim_ascii_start().strip_prefix(':')) {
            return Some(value.trim_ascii());
        }
        if end == b'}' {
            return None;
        }
    }
}

/// Goes through the elements of an array or the members of an object.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the text up to the next comma or to `close` on this level, and which of the two ended it.
    fn next_piece(&mut self, close: u8) -> Option<(&'a str, u8)> {
        let start = self.at;
        let mut open = Vec::new();
        let mut bytes = self.text.as_bytes()[start..].iter().enumerate();
        while let Some((offset, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    // A quote within a string is escaped, and so is a backslash.
                    while let Some((_, byte)) = bytes.next() {
                        match byte {
                            b'\\' => drop(bytes.next()),
                            b'"' => break,
                            _ => {}
                        }
                    }
                }
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                b'}' | b']' if open.last() == Some(byte) => drop(open.pop()),
                b',' | b'}' | b']' if open.is_empty() && (*byte == b',' || *byte == close) => {
                    self.at = start + offset + 1;
                    return Some((self.text[start..start + offset].trim_ascii(), *byte));
                }
                b'}' | b']' => return None,
                _ => {}
            }
        }
        None
    }

    fn is_at_end(&self) -> bool {
        self.text[self.at..].trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_split_although_its_elements_are_not_json() {
        for (text, elements) in [
            ("[]", &[][..]),
            (" [ ] ", &[]),
            ("[1, {\"a\":[2,3]} ,\"x,]\\\"\\\\\"]", &["1", "{\"a\":[2,3]}", "\"x,]\\\"\\\\\""]),
            ("[{\"a\":NaN},{\"b\":-Infinity}, nonsense]", &["{\"a\":NaN}", "{\"b\":-Infinity}", "nonsense"]),
            ("[{\"é\":1},]", &["{\"é\":1}", ""]),
            ("[,]", &["", ""]),
        ] {
            assert_eq!(split_array(text).as_deref(), Some(elements), "{text}");
        }
        for text in ["", "{}", "[", "[1", "[1]]", "[1] x", "[{]", "[\"]", "[{]}]", "[}]"] {
            assert_eq!(split_array(text), None, "{text}");
        }
    }

    #[test]
    fn a_member_is_found_beside_others_that_are_not_json() {
        for (text, value) in [
            ("{\"ref\":7}", Some("7")),
            ("{\"a\":NaN,\"b\":{\"ref\":1}, \"ref\" : \"x,}\" ,\"c\":Infinity}", Some("\"x,}\"")),
            ("{\"ref\":7,\"a\":", Some("7")),
            ("{\"a\":\"ref\",\"ref2\":1}", None),
            ("[\"ref\",7]", None),
            ("{\"ref\"}", None),
            ("{\"ref\":7", None),
        ] {
            assert_eq!(find_member(text, "ref"), value, "{text}");
        }
    }
}
