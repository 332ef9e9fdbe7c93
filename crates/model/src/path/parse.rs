//! The recursive-descent parser of path names.

use super::{
    Condition, Constant, Item, MAX_CONDITIONS, MAX_LENGTH, MAX_SEGMENTS, Operator, Path, PathError,
    PathErrorKind, RelativePath, Segment, Target,
};

/// Parses `text`; `reference` allows an object without its trailing dot.
pub(super) fn path(text: &str, reference: bool) -> Result<Path, PathError> {
    if text.is_empty() {
        return Err(PathError {
            offset: 0,
            kind: PathErrorKind::Empty,
        });
    }
    if text.len() > MAX_LENGTH {
        return Err(PathError {
            offset: MAX_LENGTH,
            kind: PathErrorKind::TooLong,
        });
    }
    Cursor { text, at: 0 }.path(reference)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn path(&mut self, reference: bool) -> Result<Path, PathError> {
        let mut segments = Vec::new();
        // An instance identifier may follow the name of an object other than the root.
        let mut instance_allowed = false;
        loop {
            if segments.len() >= MAX_SEGMENTS {
                return Err(self.wrong(PathErrorKind::TooDeep));
            }
            if self.end() {
                if segments.is_empty() {
                    return Err(self.wrong(PathErrorKind::ExpectedName));
                }
                return Ok(Path {
                    segments,
                    target: Target::Object,
                });
            }
            if let Some(segment) = self.instance()? {
                if !instance_allowed {
                    return Err(self.wrong(PathErrorKind::UnexpectedInstance));
                }
                segments.push(segment);
                instance_allowed = false;
                if reference && self.end() {
                    return Ok(Path {
                        segments,
                        target: Target::Object,
                    });
                }
                self.dot()?;
                continue;
            }
            let start = self.at;
            let name = self.name().map_err(|error| {
                if segments.is_empty() {
                    error
                } else {
                    PathError {
                        kind: PathErrorKind::ExpectedSegment,
                        ..error
                    }
                }
            })?;
            let root = segments.is_empty();
            match self.peek() {
                Some(b'.') => {
                    self.at += 1;
                    segments.push(Segment::Name(name.to_owned()));
                    instance_allowed = !root;
                }
                None if root && reference => {
                    segments.push(Segment::Name(name.to_owned()));
                    return Ok(Path {
                        segments,
                        target: Target::Object,
                    });
                }
                None if root => return Err(self.wrong(PathErrorKind::ExpectedDot)),
                None => {
                    return Ok(Path {
                        segments,
                        target: Target::Param(name.to_owned()),
                    });
                }
                Some(b'+' | b'#') if !root => {
                    let item = self.follow()?;
                    segments.push(Segment::Follow {
                        param: name.to_owned(),
                        item,
                    });
                    instance_allowed = false;
                    self.dot()?;
                }
                Some(b'(') if !root => {
                    if self.rest() != "()" {
                        let found = self.rest().starts_with("()");
                        let offset = if found { self.at + 2 } else { self.at };
                        let kind = if found {
                            PathErrorKind::Trailing
                        } else {
                            PathErrorKind::ExpectedCommand
                        };
                        return Err(PathError { offset, kind });
                    }
                    let command = self.text.get(start..).unwrap_or_default().to_owned();
                    return Ok(Path {
                        segments,
                        target: Target::Command(command),
                    });
                }
                Some(b'!') if !root => {
                    self.at += 1;
                    if !self.end() {
                        return Err(self.wrong(PathErrorKind::Trailing));
                    }
                    let event = self.text.get(start..).unwrap_or_default().to_owned();
                    return Ok(Path {
                        segments,
                        target: Target::Event(event),
                    });
                }
                Some(_) => return Err(self.wrong(PathErrorKind::ExpectedDot)),
            }
        }
    }

    /// An instance identifier, when one stands here.
    fn instance(&mut self) -> Result<Option<Segment>, PathError> {
        match self.peek() {
            Some(b'*') => {
                self.at += 1;
                Ok(Some(Segment::Wildcard))
            }
            Some(b'0'..=b'9') => Ok(Some(Segment::Instance(
                self.number(PathErrorKind::InstanceNumber)?,
            ))),
            Some(b'[') => Ok(Some(Segment::Search(self.expression()?))),
            _ => Ok(None),
        }
    }

    /// `posnum`: from 1, without leading zeros.
    fn number(&mut self, kind: PathErrorKind) -> Result<u32, PathError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = self.rest().get(..digits).unwrap_or_default();
        if text.starts_with('0') {
            return Err(self.wrong(kind));
        }
        let number = text.parse().map_err(|_| self.wrong(kind))?;
        self.at += digits;
        Ok(number)
    }

    /// `reffollow`: `+`, `#2+` or `#*+`.
    fn follow(&mut self) -> Result<Item, PathError> {
        let mut item = Item::Number(1);
        if self.peek() == Some(b'#') {
            self.at += 1;
            item = if self.peek() == Some(b'*') {
                self.at += 1;
                Item::All
            } else {
                Item::Number(self.number(PathErrorKind::ExpectedFollow)?)
            };
        }
        if self.peek() != Some(b'+') {
            return Err(self.wrong(PathErrorKind::ExpectedFollow));
        }
        self.at += 1;
        Ok(item)
    }

    /// `'[' exprcomp ( '&&' exprcomp )* ']'`
    fn expression(&mut self) -> Result<Vec<Condition>, PathError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            return Err(self.wrong(PathErrorKind::EmptyExpression));
        }
        let mut conditions = Vec::new();
        loop {
            if conditions.len() >= MAX_CONDITIONS {
                return Err(self.wrong(PathErrorKind::TooManyConditions));
            }
            conditions.push(self.condition()?);
            self.space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(conditions);
            }
            if !self.rest().starts_with("&&") {
                return Err(self.wrong(PathErrorKind::UnclosedExpression));
            }
            self.at += 2;
            self.space();
        }
    }

    /// `relpath oper value`, with white space tolerated around the operator (R-ARC.9a).
    fn condition(&mut self) -> Result<Condition, PathError> {
        let parameter = self.relative()?;
        self.space();
        let operator = self.operator()?;
        self.space();
        let constant = self.constant()?;
        Ok(Condition {
            parameter,
            operator,
            constant,
        })
    }

    fn relative(&mut self) -> Result<RelativePath, PathError> {
        let mut segments = Vec::new();
        loop {
            if segments.len() >= MAX_SEGMENTS {
                return Err(self.wrong(PathErrorKind::TooDeep));
            }
            let name = self.name()?.to_owned();
            match self.peek() {
                Some(b'.') => {
                    self.at += 1;
                    segments.push(Segment::Name(name));
                }
                Some(b'+' | b'#') => {
                    let item = self.follow()?;
                    segments.push(Segment::Follow { param: name, item });
                    self.dot()?;
                }
                _ => return Ok(RelativePath(segments, name)),
            }
        }
    }

    fn operator(&mut self) -> Result<Operator, PathError> {
        const OPERATORS: [Operator; 7] = [
            Operator::Equal,
            Operator::NotEqual,
            Operator::Contains,
            Operator::LessEqual,
            Operator::GreaterEqual,
            Operator::Less,
            Operator::Greater,
        ];
        for operator in OPERATORS {
            if self.rest().starts_with(operator.as_str()) {
                self.at += operator.as_str().len();
                return Ok(operator);
            }
        }
        Err(self.wrong(PathErrorKind::ExpectedOperator))
    }

    /// A quoted string, or a bare number, boolean, dateTime or hexBinary.
    fn constant(&mut self) -> Result<Constant, PathError> {
        if self.peek() == Some(b'"') {
            self.at += 1;
            let start = self.at;
            let Some(length) = self.rest().find('"') else {
                return Err(PathError {
                    offset: start - 1,
                    kind: PathErrorKind::UnclosedString,
                });
            };
            let inside = self.rest().get(..length).unwrap_or_default();
            for (offset, _) in inside.match_indices('%') {
                let two = inside.as_bytes().get(offset + 1..offset + 3);
                if !two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(PathError {
                        offset: start + offset,
                        kind: PathErrorKind::Escape,
                    });
                }
            }
            self.at += length + 1;
            return Ok(Constant::Quoted(
                crate::value::unescape(inside).into_owned(),
            ));
        }
        let length = self
            .rest()
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b':' | b'.'))
            .count();
        if length == 0 {
            return Err(self.wrong(PathErrorKind::ExpectedConstant));
        }
        let bare = self.rest().get(..length).unwrap_or_default().to_owned();
        self.at += length;
        Ok(Constant::Bare(bare))
    }

    fn name(&mut self) -> Result<&'a str, PathError> {
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        let name = rest.get(..length).unwrap_or_default();
        if !super::is_name(name) {
            return Err(self.wrong(PathErrorKind::ExpectedName));
        }
        self.at += length;
        Ok(name)
    }

    fn dot(&mut self) -> Result<(), PathError> {
        if self.peek() != Some(b'.') {
            return Err(self.wrong(PathErrorKind::ExpectedDot));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        self.at += self
            .rest()
            .bytes()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn end(&self) -> bool {
        self.at >= self.text.len()
    }

    fn wrong(&self, kind: PathErrorKind) -> PathError {
        PathError {
            offset: self.at,
            kind,
        }
    }
}
