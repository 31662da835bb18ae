//! The events of a YAML document (JSON is one too), one after the other, within limits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use granit_parser::{Event, Parser, ScanError, Span, StrInput};

use super::{BootstrapError, MAX_ANCHORS, MAX_DEPTH, MAX_NODES};
use crate::text::one_line;

/// How many events are read between two looks at the flag that cancels.
const PATIENCE: usize = 1_000;

/// Why a document is not read to its end.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It is not YAML, or is more than is read.
    Wrong {
        what: Cow<'static, str>,
        line: usize,
        column: usize,
    },
    /// Nobody wants the result any more.
    Cancelled,
}

impl Problem {
    pub(crate) fn at(span: &Span, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Wrong {
            what: what.into(),
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

impl From<ScanError> for Problem {
    fn from(error: ScanError) -> Self {
        Self::Wrong {
            what: error.info().into(),
            line: error.marker().line(),
            column: error.marker().col() + 1,
        }
    }
}

impl From<Problem> for BootstrapError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Wrong { what, line, column } => {
                Self::Yaml(one_line(&format!("{what} at line {line}, column {column}")))
            }
            Problem::Cancelled => Self::Cancelled,
        }
    }
}

/// Reads the events of the first document of a text, and refuses what is too much.
///
/// Only nodes and ends of collections come out. An alias comes out as itself: it counts as the nodes
/// that it stands for, and costs none of them.
pub(crate) struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    cancelled: &'a AtomicBool,
    until_look: usize,
    ended: bool,
    /// The nodes so far, with what each alias stands for.
    nodes: usize,
    /// The collections that are open, the outermost first.
    open: Vec<Open>,
    /// The finished nodes that have an anchor.
    anchored: BTreeMap<usize, Size>,
    anchors: usize,
}

/// A collection that is open.
struct Open {
    anchor: usize,
    /// The nodes that came before it.
    before: usize,
    /// How many collections are within each other in it, itself counted.
    depth: usize,
}

/// The size of a finished node, with what each alias in it stands for.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    depth: usize,
}

impl<'a> Events<'a> {
    pub(crate) fn new(text: &'a str, cancelled: &'a AtomicBool) -> Self {
        let options = granit_parser::options! {
            emit_comments: false,
            // One more than is accepted, so that the limit that is told is always the same.
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            cancelled,
            until_look: PATIENCE,
            ended: false,
            nodes: 0,
            open: Vec::new(),
            anchored: BTreeMap::new(),
            anchors: 0,
        }
    }

    /// The next node or end of a collection, or `None` after the document.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events are open to new ones, and those that are no nodes do not matter"
    )]
    pub(crate) fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Problem> {
        while !self.ended {
            self.until_look -= 1;
            if self.until_look == 0 {
                self.until_look = PATIENCE;
                if self.cancelled.load(Ordering::Relaxed) {
                    return Err(Problem::Cancelled);
                }
            }
            let Some(next) = self.parser.next_event() else {
                self.ended = true;
                break;
            };
            let (event, span) = next?;
            match &event {
                // Of several documents Envoy reads the first.
                Event::DocumentEnd | Event::StreamEnd => self.ended = true,
                Event::Scalar(_, _, anchor, _) => {
                    self.count(1, &span)?;
                    self.finished(*anchor, Size { nodes: 1, depth: 0 }, &span)?;
                    return Ok(Some((event, span)));
                }
                Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                    self.open.push(Open {
                        anchor: *anchor,
                        before: self.nodes,
                        depth: 1,
                    });
                    self.count(1, &span)?;
                    self.deepen(0, &span)?;
                    return Ok(Some((event, span)));
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(closed) = self.open.pop() {
                        let size = Size {
                            nodes: self.nodes - closed.before,
                            depth: closed.depth,
                        };
                        self.finished(closed.anchor, size, &span)?;
                        if let Some(around) = self.open.last_mut() {
                            around.depth = around.depth.max(closed.depth + 1);
                        }
                    }
                    return Ok(Some((event, span)));
                }
                Event::Alias(anchor) => {
                    let Some(size) = self.anchored.get(anchor).copied() else {
                        return Err(Problem::at(
                            &span,
                            "an alias stands for a node that it is in",
                        ));
                    };
                    self.count(size.nodes, &span)?;
                    self.deepen(size.depth, &span)?;
                    return Ok(Some((event, span)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Problem::at(
                span,
                format!("more than {MAX_NODES} nodes, each alias counted as what it stands for,"),
            ));
        }
        Ok(())
    }

    /// Notes that so many collections are within each other at this place.
    fn deepen(&mut self, depth: usize, span: &Span) -> Result<(), Problem> {
        if self.open.len().saturating_add(depth) > MAX_DEPTH {
            return Err(Problem::at(
                span,
                format!(
                    "more than {MAX_DEPTH} levels of nesting, each alias counted as what it \
                     stands for,"
                ),
            ));
        }
        if let Some(around) = self.open.last_mut() {
            around.depth = around.depth.max(depth + 1);
        }
        Ok(())
    }

    fn finished(&mut self, anchor: usize, size: Size, span: &Span) -> Result<(), Problem> {
        if anchor == 0 {
            return Ok(());
        }
        self.anchors += 1;
        if self.anchors > MAX_ANCHORS {
            return Err(Problem::at(
                span,
                format!("more than {MAX_ANCHORS} anchors"),
            ));
        }
        self.anchored.insert(anchor, size);
        Ok(())
    }
}
