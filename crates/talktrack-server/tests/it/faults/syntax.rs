//! Parses the arguments of a system call in strace's notation.

/// The arguments that have not been parsed yet.
pub(crate) struct Arguments<'a>(&'a str);

impl<'a> Arguments<'a> {
    /// Takes the text between the parentheses.
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// Parses a descriptor and returns its file or socket; `None` if it has no name.
    pub(crate) fn file(&mut self) -> Option<&'a str> {
        let word = self.word();
        let name = word.split_once('<')?.1;
        name.strip_suffix('>')
    }

    /// Parses a number.
    pub(crate) fn number(&mut self) -> usize {
        let word = self.word();
        word.parse().unwrap_or_else(|_| panic!("{word:?} should be a number"))
    }

    /// Parses a path and skips the directory descriptor before it, if there is one. The server uses absolute paths.
    pub(crate) fn path(&mut self) -> String {
        if !self.0.starts_with('"') {
            self.word();
        }
        String::from_utf8(self.bytes()).unwrap()
    }

    /// Returns the text up to the next comma.
    pub(crate) fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_once(", ").unwrap_or((self.0, ""));
        self.0 = rest;
        word
    }

    /// Parses bytes between quotation marks. A failed call may show an address instead; it has no bytes.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            self.word();
            return Vec::new();
        };
        let (bytes, rest) = unquote(quoted);
        assert!(!rest.starts_with("..."), "strace has cut a buffer short");
        self.0 = rest.strip_prefix(", ").unwrap_or(rest);
        bytes
    }

    /// Parses an array of `struct iovec` and returns its bytes in sequence.
    pub(crate) fn vectors(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(vector) = self.0.strip_prefix(['[', '{']) {
            self.0 = vector;
            if let Some(base) = vector.strip_prefix("iov_base=") {
                self.0 = base;
                bytes.extend(self.bytes());
                self.word();
            }
        }
        bytes
    }
}

/// Reads up to the closing quotation mark and returns the bytes and the rest after the mark.
fn unquote(quoted: &str) -> (Vec<u8>, &str) {
    let text = quoted.as_bytes();
    let mut at = 0;
    let mut bytes = Vec::with_capacity(text.len() / 2);
    loop {
        let plain = at;
        while text[at] != b'"' && text[at] != b'\\' {
            at += 1;
        }
        bytes.extend_from_slice(&text[plain..at]);
        if text[at] == b'"' {
            return (bytes, &quoted[at + 1..]);
        }
        let (byte, length) = unescape(&text[at + 1..]);
        bytes.push(byte);
        at += 1 + length;
    }
}

/// Returns the byte of an escape sequence and its length after the backslash: a letter, or up to three octal digits.
fn unescape(text: &[u8]) -> (u8, usize) {
    match text[0] {
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'r' => (b'\r', 1),
        b'v' => (0x0b, 1),
        b'f' => (0x0c, 1),
        digit @ b'0'..=b'7' => {
            let mut byte = digit - b'0';
            let mut length = 1;
            while length < 3 && matches!(text[length], b'0'..=b'7') {
                byte = byte * 8 + (text[length] - b'0');
                length += 1;
            }
            (byte, length)
        }
        other => (other, 1),
    }
}

#[test]
fn bytes_are_read_as_strace_spells_them() {
    let mut arguments = Arguments::of(r#"9</a/b>, "a\0\n\"\\9\0019\377, ", 11, 0"#);
    assert_eq!(arguments.file(), Some("/a/b"));
    assert_eq!(arguments.bytes(), b"a\0\n\"\\9\x019\xff, ");
    assert_eq!((arguments.number(), arguments.number()), (11, 0));
    let mut arguments = Arguments::of(r#"[{iov_base="a, {b", iov_len=5}, {iov_base="\1", iov_len=1}], 2"#);
    assert_eq!(arguments.vectors(), b"a, {b\x01");
    assert_eq!(Arguments::of("9</a/b>(deleted), 7").file(), None);
}
