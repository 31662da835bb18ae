//! Whether a licence expression is satisfied by a list of allowed licences.
//!
//! The grammar is that of SPDX expressions: identifiers, `WITH` an exception, `AND`, `OR` (in falling
//! order of binding) and parentheses; and, as old manifests have it, `/` for `OR`.

use std::fmt;

/// Why an expression is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    expression: String,
    at: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a licence expression: unexpected {}",
            self.expression, self.at
        )
    }
}

impl std::error::Error for Malformed {}

/// Whether one can comply with `expression` by licences that `allowed` accepts. `allowed` is asked
/// for `ID` or `ID WITH EXCEPTION`; an exception is not implied by its licence.
///
/// # Errors
///
/// When `expression` is malformed.
pub(crate) fn satisfied(
    expression: &str,
    allowed: &dyn Fn(&str) -> bool,
) -> Result<bool, Malformed> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        expression,
        tokens: &tokens,
        allowed,
    };
    let value = parser.any_of()?;
    if parser.tokens.is_empty() {
        Ok(value)
    } else {
        Err(parser.unexpected())
    }
}

struct Parser<'a> {
    expression: &'a str,
    tokens: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn any_of(&mut self) -> Result<bool, Malformed> {
        let mut value = self.all_of()?;
        while self.take("OR") {
            // Both sides are parsed in any case, so that a malformed one is noticed.
            value |= self.all_of()?;
        }
        Ok(value)
    }

    fn all_of(&mut self) -> Result<bool, Malformed> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool, Malformed> {
        if self.take("(") {
            let value = self.any_of()?;
            return if self.take(")") {
                Ok(value)
            } else {
                Err(self.unexpected())
            };
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(&licence))
    }

    fn name(&mut self) -> Result<String, Malformed> {
        match self.tokens.split_first() {
            Some((token, rest)) if !["AND", "OR", "WITH", "(", ")"].contains(token) => {
                self.tokens = rest;
                Ok((*token).to_owned())
            }
            Some(_) | None => Err(self.unexpected()),
        }
    }

    fn take(&mut self, token: &str) -> bool {
        match self.tokens.split_first() {
            Some((first, rest)) if *first == token => {
                self.tokens = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn unexpected(&self) -> Malformed {
        let at = self
            .tokens
            .first()
            .map_or("end".to_owned(), |token| format!("`{token}`"));
        Malformed {
            expression: self.expression.to_owned(),
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(expression: &str, allowed: &[&str]) -> bool {
        satisfied(expression, &|id| allowed.contains(&id)).unwrap()
    }

    #[test]
    fn or_needs_one_side_and_and_needs_both() {
        assert!(allows("MIT OR GPL-3.0", &["MIT"]));
        assert!(!allows("MIT AND GPL-3.0", &["MIT"]));
        assert!(allows("MIT AND ISC", &["MIT", "ISC"]));
        assert!(!allows("GPL-3.0", &["MIT"]));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(allows("MIT OR GPL-3.0 AND X", &["MIT"]));
        assert!(!allows("(MIT OR GPL-3.0) AND X", &["MIT"]));
        assert!(allows(
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            &["MIT", "Unicode-3.0"]
        ));
    }

    #[test]
    fn an_exception_is_asked_for_together_with_its_licence() {
        let expression = "Apache-2.0 WITH LLVM-exception OR GPL-3.0";
        assert!(!allows(expression, &["Apache-2.0"]));
        assert!(allows(expression, &["Apache-2.0 WITH LLVM-exception"]));
    }

    #[test]
    fn the_old_slash_means_or() {
        assert!(allows("MIT/GPL-3.0", &["MIT"]));
        assert!(allows("GPL-3.0 / MIT", &["MIT"]));
    }

    #[test]
    fn a_malformed_expression_is_an_error_even_where_one_side_would_do() {
        for text in [
            "",
            "MIT OR",
            "OR MIT",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "MIT WITH",
            "()",
        ] {
            assert!(satisfied(text, &|_| true).is_err(), "{text}");
        }
    }
}
