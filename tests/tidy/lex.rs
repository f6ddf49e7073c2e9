//! A lexer for Rust that knows only what tidy needs: which text is code, and its tokens.

/// An identifier, number or single punctuation mark (`::` is one mark), and its line from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// The code of a source text: comments, strings and characters give no tokens.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut lexer = Lexer {
        chars: &chars,
        at: 0,
        line: 1,
        out: Vec::new(),
    };
    while lexer.at < chars.len() {
        lexer.step();
    }
    lexer.out
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    out: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.line += usize::from(self.peek(0) == '\n');
            self.at += 1;
        }
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            (':', ':') => self.push(2),
            (first, _) if is_word(first) => self.word(),
            (first, _) if first.is_whitespace() => self.skip(1),
            _ => self.push(1),
        }
    }

    fn push(&mut self, count: usize) {
        let text = self.chars[self.at..self.at + count].iter().collect();
        self.out.push(Token {
            text,
            line: self.line,
        });
        self.skip(count);
    }

    fn line_comment(&mut self) {
        while self.at < self.chars.len() && self.peek(0) != '\n' {
            self.skip(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.skip(1);
        while self.at < self.chars.len() && self.peek(0) != '"' {
            self.skip(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.skip(1);
    }

    /// A character or a lifetime.
    fn quote(&mut self) {
        let is_char = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.skip(1);
        if !is_char {
            return;
        }
        self.skip(if self.peek(0) == '\\' { 2 } else { 1 });
        while self.at < self.chars.len() && self.peek(0) != '\'' {
            self.skip(1);
        }
        self.skip(1);
    }

    /// An identifier or number, or the prefix of a string.
    fn word(&mut self) {
        let len = (0..).take_while(|&ahead| is_word(self.peek(ahead))).count();
        let text: String = self.chars[self.at..self.at + len].iter().collect();
        let hashes = (len..).take_while(|&ahead| self.peek(ahead) == '#').count();
        let after = self.peek(len + hashes);
        match text.as_str() {
            "r" | "br" | "cr" if after == '"' => self.raw_string(len, hashes),
            "b" | "c" if hashes == 0 && after == '"' => {
                self.skip(len);
                self.string();
            }
            "b" if hashes == 0 && after == '\'' => {
                self.skip(len);
                self.quote();
            }
            "r" if hashes == 1 && is_word(after) => self.skip(2),
            _ => self.push(len),
        }
    }

    fn raw_string(&mut self, prefix: usize, hashes: usize) {
        self.skip(prefix + hashes + 1);
        while self.at < self.chars.len() {
            let ends = (1..=hashes).all(|ahead| self.peek(ahead) == '#');
            if self.peek(0) == '"' && ends {
                self.skip(1 + hashes);
                return;
            }
            self.skip(1);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The tokens without modules that exist only for tests.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !starts_with(&tokens[at..], &marker) {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // Everything up to the end of the item: its block, or its semicolon.
        at += marker.len();
        while at < tokens.len() && tokens[at].text != "{" && tokens[at].text != ";" {
            at += 1;
        }
        at = match tokens.get(at) {
            Some(open) if open.text == "{" => at + block_len(&tokens[at..]),
            _ => at + 1,
        };
    }
    out
}

/// Whether the tokens begin with these.
pub fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len()
        && tokens
            .iter()
            .zip(texts)
            .all(|(token, text)| token.text == *text)
}

/// Tokens of the block that the first of these opens, its braces included.
pub fn block_len(tokens: &[Token]) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// All paths in the code, as their segments, with those inside `use` braces written out.
pub fn paths(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = is_segment(&tokens[at]) && tokens.get(at + 1).is_some_and(|t| t.text == "::");
        let goes_on = at > 0 && tokens[at - 1].text == "::";
        at = match starts && !goes_on {
            true => tree(tokens, at, &[], &mut out),
            false => at + 1,
        };
    }
    out
}

fn is_segment(token: &Token) -> bool {
    token.text.starts_with(is_word) || token.text == "*"
}

/// Reads one path or `use` tree from `at`, adds its paths to `out`, returns what follows it.
fn tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens[at].line;
    while at < tokens.len() && is_segment(&tokens[at]) {
        path.push(tokens[at].text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            out.push((path, line));
            return at;
        }
        at += 1;
    }
    if tokens.get(at).is_none_or(|token| token.text != "{") {
        // A turbofish or a macro's parameter: the path ends before it.
        out.push((path, line));
        return at;
    }
    at += 1;
    while at < tokens.len() && tokens[at].text != "}" {
        if !is_segment(&tokens[at]) && tokens[at].text != "{" {
            at += 1;
            continue;
        }
        at = tree(tokens, at, &path, out);
        // An alias: `name as other`.
        while at < tokens.len() && !matches!(tokens[at].text.as_str(), "," | "}") {
            at += 1;
        }
    }
    at + 1
}
