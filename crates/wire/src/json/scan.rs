//! Finding where JSON values begin and end, and that they are JSON, without building them.

use super::MAX_DEPTH;

/// Where a text stops being JSON, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte offset in the scanned text.
    pub(super) at: usize,
    /// What was expected there.
    pub(super) expected: &'static str,
}

/// A position in a text; everything before it has been checked.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// `at <= text.len()`, always on a character boundary: only ASCII is stepped over byte by byte, save inside strings, which
    /// end with an ASCII quote.
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// The next value, white space before it skipped.
    pub(super) fn value(&mut self) -> Result<&'a str, Fault> {
        self.white_space();
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.white_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            self.fault("the end of the message")
        }
    }

    /// The elements of the array that starts here; `None` if something else does.
    pub(super) fn array(mut self) -> Option<Elements<'a>> {
        self.white_space();
        self.eat(b'[').then_some(Elements {
            scanner: self,
            first: true,
        })
    }

    /// The members of the object that starts here; `None` if something else does.
    pub(super) fn object(mut self) -> Option<Members<'a>> {
        self.white_space();
        self.eat(b'{').then_some(Members {
            scanner: self,
            first: true,
        })
    }

    fn fault<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, expected })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips one value. Iterative, so the depth of the input costs no stack.
    fn skip_value(&mut self) -> Result<(), Fault> {
        // What is open around the position, the innermost in the lowest bit: 1 an object, 0 an array.
        let mut open: u128 = 0;
        let mut depth = 0;
        const { assert!(MAX_DEPTH <= u128::BITS) };
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                Some(bracket @ (b'[' | b'{')) => {
                    if depth == MAX_DEPTH {
                        return self.fault("less nesting");
                    }
                    depth += 1;
                    let object = bracket == b'{';
                    open = open << 1 | u128::from(object);
                    self.at += 1;
                    self.white_space();
                    // In ASCII the closing bracket is the second after the opening one. An empty pair is closed below, like
                    // any other.
                    if self.peek() != Some(bracket + 2) {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => return self.fault("a JSON value"),
            }
            // A value has just ended; go on to the next one, closing what closes here.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.white_space();
                let object = open & 1 == 1;
                match self.peek() {
                    Some(b']') if !object => {}
                    Some(b'}') if object => {}
                    Some(b',') => {
                        self.at += 1;
                        self.white_space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    _ if object => return self.fault("`,` or `}`"),
                    _ => return self.fault("`,` or `]`"),
                }
                self.at += 1;
                depth -= 1;
                open >>= 1;
            }
        }
    }

    /// A member's name, the colon and the white space up to the value.
    fn name(&mut self) -> Result<&'a str, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault("a name in quotes");
        }
        let start = self.at;
        self.string()?;
        let name = &self.text[start..self.at];
        self.white_space();
        if !self.eat(b':') {
            return self.fault("`:`");
        }
        self.white_space();
        Ok(name)
    }

    /// A string, from its opening quote to behind its closing one.
    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.plain_characters();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault("control characters to be escaped"),
                None => return self.fault("the string to end"),
            }
        }
    }

    /// Moves to the next quote, backslash, control character or the end.
    fn plain_characters(&mut self) {
        const ONES: u64 = u64::MAX / 0xff;
        const HIGHS: u64 = ONES << 7;
        // Eight bytes at a time: the high bit of a byte is set in `below(x, n)` if the byte is below n. A borrow may set it
        // in bytes above such a one too, never below, and only the lowest is looked at.
        let below = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & HIGHS;
        let bytes = self.text.as_bytes();
        while let Some(&chunk) = bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let x = u64::from_le_bytes(chunk);
            let quote = below(x ^ (ONES * u64::from(b'"')), 1);
            let backslash = below(x ^ (ONES * u64::from(b'\\')), 1);
            let special = below(x, 0x20) | quote | backslash;
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self
            .peek()
            .is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
        {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.fault("four hexadecimal digits");
                    }
                    self.at += 1;
                }
            }
            _ => return self.fault("an escape that JSON knows"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            self.fault("a digit")
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.fault("a JSON value")
        }
    }
}

/// The elements of an array, one by one.
pub(super) struct Elements<'a> {
    scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Elements<'a> {
    /// The next element as written; `None` behind the last one, with only white space left in the text.
    pub(super) fn next(&mut self) -> Result<Option<&'a str>, Fault> {
        let scanner = &mut self.scanner;
        scanner.white_space();
        if scanner.eat(b']') {
            return scanner.end().map(|()| None);
        }
        if !std::mem::take(&mut self.first) && !scanner.eat(b',') {
            return scanner.fault("`,` or `]`");
        }
        scanner.value().map(Some)
    }
}

/// The members of an object, one by one.
pub(super) struct Members<'a> {
    scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Members<'a> {
    /// The next name and value as written; `None` behind the last one, with only white space left in the text.
    pub(super) fn next(&mut self) -> Result<Option<(&'a str, &'a str)>, Fault> {
        let scanner = &mut self.scanner;
        scanner.white_space();
        if scanner.eat(b'}') {
            return scanner.end().map(|()| None);
        }
        if !std::mem::take(&mut self.first) {
            if !scanner.eat(b',') {
                return scanner.fault("`,` or `}`");
            }
            scanner.white_space();
        }
        let name = scanner.name()?;
        Ok(Some((name, scanner.value()?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn ours(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.end().is_ok()
    }

    /// The naive twin.
    fn theirs(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        for text in [
            "",
            " ",
            "0",
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e5",
            "1E+5",
            "1e-",
            "+1",
            "nul",
            "null",
            "nullx",
            "tru",
            "true",
            "false",
            "[]",
            "[ ]",
            "[,]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2]",
            "[[],[]]",
            "[[,]]",
            "[1}",
            "{}",
            "{ }",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\":1,\"b\":[{}]}",
            "{a:1}",
            "{1:1}",
            "{\"a\" : 1 }",
            "\"",
            "\"a",
            "\"a\"",
            "\"\\",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\n\"",
            "\"\u{1f}\"",
            "\"\u{20}\"",
            "\"1234567\\\"\"",
            "\"12345678\"",
            "\"é😀ab\"",
            "\u{feff}1",
            "[",
            "{",
            "]",
            "}",
            "[{]}",
            "1]",
        ] {
            assert_eq!(ours(text), theirs(text), "{text:?}");
        }
    }

    #[test]
    fn a_special_character_is_found_at_every_offset_of_a_string() {
        for special in ['"', '\\', '\u{1f}', '\0'] {
            for before in 0..40 {
                for after in 0..20 {
                    let text = format!("\"{}{special}{}\"", "é".repeat(before), "\u{7f}".repeat(after));
                    assert_eq!(ours(&text), theirs(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn nesting_is_bounded_and_the_deepest_allowed_is_read_by_serde_json_in_a_delivery() {
        let nested = |depth: u32| "[{\"a\":".repeat(depth as usize / 2) + "1" + &"}]".repeat(depth as usize / 2);
        let deepest = nested(MAX_DEPTH);
        assert!(ours(&deepest));
        assert!(serde_json::from_str::<serde_json::Value>(&format!("[\"msg\",\"t\",{deepest}]")).is_ok());
        assert!(!ours(&nested(MAX_DEPTH + 2)));
        assert!(!ours(&"[".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn texts_of_json_letters_are_judged_as_serde_json_judges_them(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "{", "}", ",", ":", "\"", "\"a\"", "\"b\":", "\\", "\\n", "\\u00e9", "1", "0", "-", ".", "e", "true",
                    "null", " ", "\n", "é", "\u{1}",
                ]),
                0..24,
            )
        ) {
            let text = parts.concat();
            prop_assert_eq!(ours(&text), theirs(&text));
        }

        #[test]
        fn any_text_is_judged_as_serde_json_judges_it(text in ".{0,64}") {
            prop_assert_eq!(ours(&text), theirs(&text));
        }
    }
}
