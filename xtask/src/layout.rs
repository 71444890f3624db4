//! Checks the layout of a crate: the root file lists the modules in reading order, a module imports only
//! modules listed after it, every file begins with a description, and no file is too long.

use std::path::{Path, PathBuf};

/// The most lines of a file.
const MAX_LINES: usize = 400;

/// Checks the crate with this root file (`src/lib.rs` or `src/main.rs`). Returns one line for each
/// violation.
///
/// # Panics
/// If the files cannot be read.
pub(crate) fn check(root_file: &Path) -> Vec<String> {
    let source_dir = root_file.parent().unwrap_or(Path::new("."));
    let mut breaches = check_files(source_dir);
    let order = modules_in_order(&code_of(&read(root_file)));
    // A `main.rs` next to it is a crate of its own.
    let program = source_dir.join("main.rs");
    for file in rust_files(source_dir).iter().filter(|file| *file != root_file && **file != program) {
        breaches.extend(check_imports(source_dir, file, &order));
    }
    breaches
}

/// Checks that every Rust file under the directory begins with `//!` and has at most 400 lines.
///
/// # Panics
/// If the files cannot be read.
pub(crate) fn check_files(source_dir: &Path) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in rust_files(source_dir) {
        let text = read(&file);
        let name = file.display();
        if !text.starts_with("//! ") {
            breaches.push(format!("{name}: does not begin with `//! ` and what it is"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            breaches.push(format!("{name}: has {lines} lines; {MAX_LINES} are the most"));
        }
    }
    breaches
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

/// Returns the Rust files under a directory, sorted.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("cannot read {}: {error}", dir.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a directory's entry can be read").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn check_imports(source_dir: &Path, file: &Path, order: &[String]) -> Vec<String> {
    let path = module_path(file.strip_prefix(source_dir).unwrap_or(file));
    let name = file.display();
    let module = path[0].clone();
    let Some(place) = order.iter().position(|listed| *listed == module) else {
        return vec![format!("{name}: the root file does not list the module `{module}`")];
    };
    let mut breaches = Vec::new();
    for used in names_from_root(&code_of(&read(file)), &path) {
        match order.iter().position(|listed| *listed == used) {
            Some(at) if at >= place => {}
            Some(_) => breaches.push(format!("{name}: `{module}` uses `{used}`, which is listed before it")),
            None => breaches.push(format!(
                "{name}: uses `crate::{used}`, which is no module; name the one it comes from"
            )),
        }
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

/// Returns the module path of a file: `store/sqlite.rs` is `["store", "sqlite"]`.
fn module_path(relative: &Path) -> Vec<String> {
    let path = relative.with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

/// Returns the modules that a root file lists with `mod name;` or `mod name {`, in its order.
fn modules_in_order(code: &str) -> Vec<String> {
    let words = words_of(code);
    let mut depth = 0;
    let mut modules = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "mod" if depth == 0 => modules.extend(words.get(index + 1).map(|name| (*name).to_owned())),
            _ => {}
        }
    }
    modules
}

/// Returns the names that code at this module path takes from the crate's root: `tracker` for
/// `crate::tracker::Tracker`, `*` for all.
fn names_from_root(code: &str, path: &[String]) -> Vec<String> {
    let words = words_of(code);
    let mut names = Vec::new();
    // The depth of braces, and the depths at which inline modules were opened.
    let (mut depth, mut inner): (usize, Vec<usize>) = (0, Vec::new());
    for (index, word) in words.iter().enumerate() {
        match *word {
            "{" => {
                depth += 1;
                if index >= 2 && words[index - 2] == "mod" {
                    inner.push(depth);
                }
            }
            "}" => {
                inner.retain(|opened| *opened < depth);
                depth = depth.saturating_sub(1);
            }
            "crate" => names.extend(heads(&words[index + 1..])),
            "super" if !continues_a_path(&words[..index]) => {
                let steps = leading_supers(&words[index..]);
                if steps == path.len() + inner.len() {
                    names.extend(heads(&words[index + 2 * steps - 1..]));
                }
            }
            _ => {}
        }
    }
    names
}

/// True if the next word continues a `super::` path.
fn continues_a_path(before: &[&str]) -> bool {
    matches!(before, [.., "super", "::"])
}

/// Returns the number of `super` at the beginning of a path.
fn leading_supers(words: &[&str]) -> usize {
    let mut steps = 0;
    while words.get(2 * steps) == Some(&"super") && (steps == 0 || words[2 * steps - 1] == "::") {
        steps += 1;
    }
    steps
}

/// Returns the first names of the path, or of the group of paths, that follows: `::a::b` has `a`,
/// `::{a::b, c}` has `a` and `c`.
fn heads(rest: &[&str]) -> Vec<String> {
    match rest {
        ["::", "{", group @ ..] => heads_of_group(group),
        ["::", "*", ..] => vec!["*".into()],
        ["::", name, ..] => vec![(*name).to_owned()],
        _ => Vec::new(),
    }
}

fn heads_of_group(group: &[&str]) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 1;
    let mut at_start = true;
    for word in group {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => {
                at_start = true;
                continue;
            }
            name if at_start => heads.push(name.to_owned()),
            _ => {}
        }
        at_start = false;
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Splits code into names, `::`, and other single characters.
fn words_of(code: &str) -> Vec<&str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 128;
    let bytes = code.as_bytes();
    let mut words = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let mut end = start + 1;
        if is_name(bytes[start]) {
            while end < bytes.len() && is_name(bytes[end]) {
                end += 1;
            }
        } else if bytes[start..].starts_with(b"::") {
            end += 1;
        }
        if !bytes[start].is_ascii_whitespace() {
            words.push(&code[start..end]);
        }
        start = end;
    }
    words
}

/// Returns the text without comments, strings and character literals.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => raw_string(rest),
            '"' => 1 + quoted(&rest[1..], '"'),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Returns the length of a block comment, which may contain others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let step = if text[at..].starts_with("/*") {
            depth += 1;
            2
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            text[at..].chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Returns the length of a raw string such as `r#"…"#`, or 0 if it is not one.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let Some(body) = text[1 + hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    2 + hashes + length
}

/// Returns the length up to and including the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices() {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return at + next.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character literal, or 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text[1..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), _) => 1 + quoted(&text[1..], '\''),
        (Some(letter), Some('\'')) => 2 + letter.len_utf8(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
