//! A configuration from a template, in the language of Jinja.
//!
//! | name | meaning |
//! | --- | --- |
//! | `env.NAME` | an environment variable, as the caller passes it in |
//! | `epoch` | the restart epoch, where the caller knows it (see below) |
//! | `node_id` | the id of the node |
//! | `private_ips` | the addresses of the node, a list |
//! | `resolve("host:port")` | an address of that host: `10.0.0.7:80`; `.ip` and `.port` are its parts |
//!
//! The rest is what [minijinja](https://docs.rs/minijinja) has built in, without what reads other
//! files. Nothing is escaped: `{{ env.NAME | tojson }}` writes a value that may hold quotes or colons
//! as a string of JSON, which is one of YAML too. A name that is not there is an error; give it a
//! default with `{{ env.NAME | default("x") }}`. Errors tell the file, the line and the names, and
//! never a value, which could be a secret.
//!
//! What is rendered is the configuration: it is compared, digested, validated and run.
//! [`EnvoyConfig::render`](crate::EnvoyConfig::render) makes one, which knows how to render itself
//! for each epoch. `epoch` is known to who renders for one epoch; for others it is an error that
//! says so.
//!
//! The module reads no environment, asks no name server and prints nothing.
//!
//! [`Template::render`] renders on the thread of its caller. It bounds the steps of the template and
//! the size of the result. It does not bound everything: a value that contains itself overflows the
//! stack, which ends the program, and a single step may take any time and memory. Use it for templates
//! that are trusted as the program itself is. For any other, a [`Renderer`] renders in a process of
//! its own, with limits on memory, time and stack.

mod engine;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bootstrap::MAX_BYTES;

pub use process::{
    MAX_MEMORY, MAX_PROCESSOR_TIME, MAX_TIME, Renderer, RendererError, render_for_parent,
};

/// How much work rendering may be, in minijinja's unit, which is about one instruction. Ten million
/// take some seconds at most, and a configuration of a thousand clusters needs some ten thousand.
pub const FUEL: u64 = 10_000_000;

/// Finds an address of `host:port`.
pub type Resolver =
    Arc<dyn Fn(&str) -> Result<SocketAddr, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// What a template can use.
#[derive(Clone, Default)]
pub struct Inputs {
    /// `env`: the environment variables that the template may see. Pass on those that it should
    /// know, not those that happen to be there.
    pub env: BTreeMap<String, String>,
    /// `epoch`. [`EnvoyConfig::render`](crate::EnvoyConfig::render) sets it itself.
    pub epoch: Option<u32>,
    /// `node_id`.
    pub node_id: Option<String>,
    /// `private_ips`.
    pub private_ips: Vec<IpAddr>,
    /// `resolve`. It is called while the template is rendered, and may block.
    pub resolver: Option<Resolver>,
}

/// Without values, which may be secrets.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("epoch", &self.epoch)
            .field("node_id", &self.node_id)
            .field("private_ips", &self.private_ips)
            .finish_non_exhaustive()
    }
}

/// A template.
///
/// ```
/// use handover_envoy::template::{Inputs, Template};
///
/// let text = "node: {id: {{ node_id }}}\nadmin_port: {{ env.ADMIN_PORT | default(9901) }}\n";
/// let template = Template::new("/etc/envoy.yaml".as_ref(), text.to_owned());
/// let mut inputs = Inputs::default();
/// let error = template.render(&inputs).unwrap_err();
/// let chain = handover_tokio::error_chain(&error);
/// assert!(chain.starts_with("/etc/envoy.yaml, line 1: node_id is not known"));
///
/// inputs.node_id = Some("front-1".to_owned());
/// assert_eq!(template.render(&inputs)?, "node: {id: front-1}\nadmin_port: 9901\n");
/// # Ok::<(), handover_envoy::template::TemplateError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    path: PathBuf,
    text: String,
}

/// Why a template gives no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read the template {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is larger than a configuration may be.
    #[error("the template {} is larger than {MAX_BYTES} bytes: is it the right file?", .0.display())]
    TooLarge(PathBuf),
    /// The file is not text.
    #[error("the template {} is not UTF-8 text: is it the right file?", .0.display())]
    NotText(PathBuf),
    /// It cannot be rendered.
    #[error("{}, line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        #[source]
        problem: Problem,
    },
    /// The process that should render it gave nothing, or passed a limit.
    #[error("cannot render {}", path.display())]
    Process {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: RendererError,
    },
}

/// What is wrong on a line of a template. It is the source of a [`TemplateError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A name stands for nothing.
    Undefined {
        /// The name, as it is written there.
        name: String,
    },
    /// It is not the language of Jinja.
    Syntax(String),
    /// A filter, a test or a function does not exist.
    Unknown(String),
    /// An expression cannot be computed.
    Expression(String),
    /// The name of a host has no address.
    Unresolved {
        /// `host:port`, as it was asked for.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Rendering takes more than [`FUEL`].
    TooMuchWork,
    /// The configuration is larger than one may be.
    OutputTooLarge,
}

impl Template {
    /// Makes a template of this text, as if it had been read from `path`.
    #[must_use]
    pub fn new(path: &Path, text: String) -> Self {
        let path = path.to_owned();
        Self { path, text }
    }

    /// Reads a template. It blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] other than [`Line`](TemplateError::Line).
    pub fn read(path: &Path) -> Result<Self, TemplateError> {
        let failed = |source| TemplateError::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let file = File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_BYTES {
            return Err(TemplateError::TooLarge(path.to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|_| TemplateError::NotText(path.to_owned()))?;
        Ok(Self::new(path, text))
    }

    /// Renders the configuration on this thread. It takes as long as the resolver does, and otherwise
    /// milliseconds. A template that is not trusted can end the program or take any time and memory:
    /// use a [`Renderer`] for that.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Line`] tells the line, what is wrong with it, and what to do.
    pub fn render(&self, inputs: &Inputs) -> Result<String, TemplateError> {
        engine::render(&self.text, inputs).map_err(|(line, problem)| TemplateError::Line {
            path: self.path.clone(),
            line,
            problem,
        })
    }

    /// Returns whether the text has this name anywhere, even in a comment. If it has not, nothing
    /// need be found out for the name.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        self.text.contains(name)
    }

    /// Returns the path of the file that the template was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Without the text, which may hold secrets.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("path", &self.path)
            .field("bytes", &self.text.len())
            .finish()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined { name } if name == "epoch" => f.write_str(
                "epoch is unknown here, because this text is not rendered for one epoch: remove it",
            ),
            Self::Undefined { name } => match name.strip_prefix("env.") {
                Some(variable) if !variable.contains(['.', '[']) => write!(
                    f,
                    "the environment variable {variable} is not set: set it, or write \
                     {name} | default(\"...\")"
                ),
                _ => write!(
                    f,
                    "{name} is not known: define it, or write {name} | default(\"...\")"
                ),
            },
            Self::Syntax(what) => write!(f, "not the syntax of a template: {what}"),
            Self::Unknown(what) => write!(f, "{what}: check its name, or do without"),
            Self::Expression(what) => write!(
                f,
                "{what}: check the types of the values, and convert them with | int or | string"
            ),
            Self::Unresolved { host, .. } => {
                write!(f, "cannot resolve {host:?}: check the name and the port")
            }
            Self::TooMuchWork => write!(
                f,
                "the template takes more than {FUEL} steps: does a loop run too often?"
            ),
            Self::OutputTooLarge => write!(
                f,
                "the configuration grows larger than {MAX_BYTES} bytes: does a loop run too often?"
            ),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unresolved { source, .. } => Some(&**source),
            Self::Undefined { .. }
            | Self::Syntax(_)
            | Self::Unknown(_)
            | Self::Expression(_)
            | Self::TooMuchWork
            | Self::OutputTooLarge => None,
        }
    }
}

#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
