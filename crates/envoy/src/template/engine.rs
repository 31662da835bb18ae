//! The template engine: what it is given, what it may cost, and which of its words reach people.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::{FUEL, Inputs, Problem, Resolver};
use crate::bootstrap::MAX_BYTES;
use crate::text::one_line;

/// The deepest nesting of loops that call themselves.
const DEPTH: usize = 50;

/// Renders a template, or tells the line and the problem.
pub(super) fn render(text: &str, inputs: &Inputs) -> Result<String, (usize, Problem)> {
    let mut output = Bounded::default();
    let rendered = environment(inputs).and_then(|mut engine| {
        engine.add_template_owned("template", text.to_owned())?;
        engine
            .get_template("template")?
            .render_captured_to(context(inputs), &mut output)
            .map(|_captured| ())
    });
    match rendered {
        Ok(()) => Ok(output.text()),
        Err(error) => Err((
            error.line().unwrap_or(1),
            problem(&error, output.overflowed),
        )),
    }
}

/// Compiles a template as [`render`] does, and does not render it.
#[cfg(any(test, feature = "__fuzzing"))]
pub(super) fn compile(text: &str) -> Result<(), (usize, Problem)> {
    let compiled = environment(&Inputs::default())
        .and_then(|mut engine| engine.add_template_owned("template", text.to_owned()));
    compiled.map_err(|error| (error.line().unwrap_or(1), problem(&error, false)))
}

fn environment(inputs: &Inputs) -> Result<Environment<'static>, Error> {
    let mut engine = Environment::new();
    // It prints all it knows, secrets included, into the configuration.
    engine.remove_global("debug");
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(DEPTH);
    // So that an error can name what is undefined.
    engine.set_debug(true);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()?,
    );
    if let Some(resolver) = &inputs.resolver {
        let resolver = Arc::clone(resolver);
        engine.add_function("resolve", move |host: &str| resolve(&resolver, host));
    }
    Ok(engine)
}

fn context(inputs: &Inputs) -> Value {
    let mut names = BTreeMap::from([
        ("env", Value::from(inputs.env.clone())),
        (
            "private_ips",
            inputs.private_ips.iter().map(ToString::to_string).collect(),
        ),
    ]);
    if let Some(epoch) = inputs.epoch {
        names.insert("epoch", epoch.into());
    }
    if let Some(node_id) = &inputs.node_id {
        names.insert("node_id", node_id.into());
    }
    Value::from(names)
}

fn resolve(resolver: &Resolver, host: &str) -> Result<Value, Error> {
    match resolver(host) {
        Ok(address) => Ok(Value::from_object(Resolved(address))),
        Err(source) => {
            let host = one_line(host);
            let source = Unresolved { host, source };
            Err(Error::from(ErrorKind::InvalidOperation).with_source(source))
        }
    }
}

/// What `resolve` gives to the template.
#[derive(Debug)]
struct Resolved(SocketAddr);

impl Object for Resolved {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "ip" => Some(self.0.ip().to_string().into()),
            "port" => Some(self.0.port().into()),
            _ => None,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Carries a failure of the resolver through the engine.
#[derive(Debug, thiserror::Error)]
#[error("{host} is not resolved")]
struct Unresolved {
    host: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What people are told. The engine's own words are passed on where they are made of names, types and
/// the syntax of the template, and of nothing else: others may quote a value.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of errors are open to new ones, and all that is said of the rest is its kind"
)]
fn problem(error: &Error, overflowed: bool) -> Problem {
    if overflowed {
        return Problem::OutputTooLarge;
    }
    let unresolved = std::error::Error::source(error).and_then(|source| {
        let unresolved = source.downcast_ref::<Unresolved>()?;
        Some(Problem::Unresolved {
            host: unresolved.host.clone(),
            source: unresolved.source.to_string().into(),
        })
    });
    if let Some(unresolved) = unresolved {
        return unresolved;
    }
    let detail = || one_line(error.detail().unwrap_or_default());
    match error.kind() {
        ErrorKind::UndefinedError => Problem::Undefined {
            name: undefined_name(&detail()),
        },
        ErrorKind::SyntaxError | ErrorKind::BadEscape => Problem::Syntax(detail()),
        ErrorKind::UnknownFunction => Problem::Unknown(format!("the function {}", detail())),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
            Problem::Unknown(format!("the {}", detail()))
        }
        ErrorKind::OutOfFuel => Problem::TooMuchWork,
        ErrorKind::InvalidOperation
            if ["tried to use ", "value of type ", "cannot convert "]
                .iter()
                .any(|start| detail().starts_with(start)) =>
        {
            Problem::Expression(detail())
        }
        kind => Problem::Expression(format!("an expression cannot be computed ({kind})")),
    }
}

/// The name in "`env.NAME` is undefined", and `env.NAME` for `env["NAME"]` too.
fn undefined_name(detail: &str) -> String {
    let name = detail
        .split('`')
        .nth(1)
        .filter(|name| !name.is_empty())
        .unwrap_or("a value");
    name.strip_prefix("env['")
        .and_then(|rest| rest.strip_suffix("']"))
        .map_or_else(|| name.to_owned(), |variable| format!("env.{variable}"))
}

/// Takes what is rendered, up to the size of a configuration.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Bounded {
    fn text(self) -> String {
        // The engine writes text; what it could not have written is not worth a panic.
        String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > MAX_BYTES {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_largest_size_is_taken_and_not_a_byte_more() {
        let mut output = Bounded::default();
        assert!(output.write_all(&vec![b'a'; MAX_BYTES]).is_ok());
        assert!(!output.overflowed);
        assert!(output.write_all(b"a").is_err() && output.overflowed);
        assert_eq!(output.text().len(), MAX_BYTES);
    }

    #[test]
    fn what_is_no_template_does_not_compile() {
        assert!(compile("a: {{ env.A }}\n").is_ok());
        let (line, problem) = compile("a: 1\nb: {{ env.A }\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(matches!(problem, Problem::Syntax(_)), "{problem:?}");
    }
}
