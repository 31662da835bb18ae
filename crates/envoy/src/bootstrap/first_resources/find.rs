//! Where the configuration sources of a document are, and what is to be written there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use granit_parser::{Event, ScalarStyle, Span, StructureStyle};

use super::FirstResourcesError;
use crate::bootstrap::events::Events;

/// The field that is set.
pub(super) const TIMEOUT: &str = "initial_fetch_timeout";
/// What it is set to.
pub(super) const FOREVER: &str = "0s";

/// The fields from whose source Envoy fetches resources before it is live. Left out are `lrs_server`
/// and `odcds.source`: nothing is waited for there.
const SOURCES: [&str; 20] = [
    "lds_config",
    "ldsConfig",
    "cds_config",
    "cdsConfig",
    "eds_config",
    "edsConfig",
    "leds_config",
    "ledsConfig",
    "rtds_config",
    "rtdsConfig",
    // Of routes, virtual hosts, filters, filter chains, and routes of other protocols.
    "config_source",
    "configSource",
    "rds_config_source",
    "rdsConfigSource",
    "scoped_rds_config_source",
    "scopedRdsConfigSource",
    "srds_config_source",
    "srdsConfigSource",
    "default_config_source",
    "defaultConfigSource",
];

/// The fields from whose source further messages come, which may name sources of their own.
const MESSAGES: [&str; 4] = ["lds_config", "ldsConfig", "cds_config", "cdsConfig"];

/// The fields from whose source certificates come.
const SECRETS: [&str; 2] = ["sds_config", "sdsConfig"];

/// The fields that hold several of them.
const LISTS_OF_SOURCES: [&str; 2] = ["config_sources", "configSources"];

/// The fields that say where a source fetches from. One of them makes a mapping a source.
const SPECIFIERS: [&str; 7] = [
    "ads",
    "self",
    "path",
    "path_config_source",
    "pathConfigSource",
    "api_config_source",
    "apiConfigSource",
];

/// The other fields of a source. A mapping with any more is none.
const OTHER_FIELDS: [&str; 3] = ["resource_api_version", "resourceApiVersion", "authorities"];

/// The fields whose contents are the user's own.
const FREE: [&str; 12] = [
    "metadata",
    "filter_metadata",
    "filterMetadata",
    "typed_filter_metadata",
    "typedFilterMetadata",
    "metadata_match",
    "metadataMatch",
    "static_layer",
    "staticLayer",
    "json_format",
    "jsonFormat",
    "filter_context",
];

/// The messages whose contents are the user's own, as `@type` names them.
const FREE_MESSAGES: [&str; 3] = [
    "google.protobuf.Struct",
    "google.protobuf.Value",
    "google.protobuf.ListValue",
];

/// A change of the text.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) kind: Kind,
    /// Which event of the document it is about: the start of the mapping that gets the field, or the
    /// value that is replaced.
    pub(super) index: usize,
    /// What is replaced, in bytes.
    pub(super) at: Range<usize>,
    pub(super) text: String,
    /// Whether it sets the timeout of certificates on the aggregated stream.
    shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Insert,
    Replace,
}

/// What a node is, from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Where a source may be.
    Source,
    /// Where the source of certificates may be.
    Secret,
    /// Where a list of sources may be.
    Sources,
    /// Within what is the user's own.
    Free,
    /// Anywhere else.
    Other,
}

impl Role {
    fn is_source(self) -> bool {
        matches!(self, Self::Source | Self::Secret)
    }
}

/// A collection that is open.
struct Frame<'a> {
    role: Role,
    mapping: bool,
    index: usize,
    anchor: usize,
    span: Span,
    flow: bool,
    /// Whether the next node is a key.
    key_next: bool,
    key: Option<Key<'a>>,
    /// Whether there is no field that a source does not have.
    only_fields: bool,
    has_specifier: bool,
    /// Whether the source is the aggregated stream.
    aggregated: bool,
    timeouts: Vec<Timeout>,
    /// Whether `@type` says that the contents are the user's own.
    free: bool,
    /// How many edits and candidates there were before it.
    edits_before: usize,
    sources_before: usize,
}

struct Key<'a> {
    text: Cow<'a, str>,
    span: Span,
}

/// A value of `initial_fetch_timeout`.
struct Timeout {
    index: usize,
    anchor: usize,
    span: Span,
    key_end: usize,
    /// Whether a scalar on one line or an alias stands there.
    replaceable: bool,
}

/// A node with an anchor.
struct Anchored {
    role: Role,
    index: usize,
    end: usize,
}

struct Alias {
    anchor: usize,
    role: Role,
    /// Whether it stands for the source of listeners or of clusters.
    for_messages: bool,
    span: Span,
}

struct Search<'a> {
    text: &'a str,
    frames: Vec<Frame<'a>>,
    edits: Vec<Edit>,
    /// The sources that are to be changed, by their event.
    sources: Vec<usize>,
    /// What looks like a source in what is the user's own.
    lookalikes: Vec<usize>,
    anchored: BTreeMap<usize, Anchored>,
    aliases: Vec<Alias>,
    /// The anchors of values that are replaced.
    replaced: BTreeSet<usize>,
    /// The sources of listeners and clusters, by their event.
    messages: Vec<usize>,
    /// The sources that are the aggregated stream, by their event.
    aggregated: BTreeSet<usize>,
}

/// The changes that set the timeout of each source, in the order of the text.
///
/// Certificates on the aggregated stream are left out if listeners or clusters are fetched. A fetched
/// listener may name the same certificate with the same source. Envoy has one subscription for both, as
/// long as both sources are written alike. Otherwise the second one gets nothing, because the control
/// plane does not send a name again that is subscribed already. The listener then resets every handshake.
pub(super) fn edits(text: &str, cancelled: &AtomicBool) -> Result<Vec<Edit>, FirstResourcesError> {
    let mut events = Events::new(text, cancelled);
    let mut search = Search {
        text,
        frames: Vec::new(),
        edits: Vec::new(),
        sources: Vec::new(),
        lookalikes: Vec::new(),
        anchored: BTreeMap::new(),
        aliases: Vec::new(),
        replaced: BTreeSet::new(),
        messages: Vec::new(),
        aggregated: BTreeSet::new(),
    };
    let mut index = 0;
    while let Some((event, span)) = events.next()? {
        search.event(index, event, span)?;
        index += 1;
    }
    search.sources.sort_unstable();
    search.lookalikes.sort_unstable();
    let leaves_shared = search.fetches_messages();
    search.check_aliases(leaves_shared)?;
    if leaves_shared {
        search.edits.retain(|edit| !edit.shared);
    }
    search.edits.sort_unstable_by_key(|edit| edit.at.start);
    Ok(search.edits)
}

impl<'a> Search<'a> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events are open to new ones, and those that are no nodes do not matter"
    )]
    fn event(
        &mut self,
        index: usize,
        event: Event<'a>,
        span: Span,
    ) -> Result<(), FirstResourcesError> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let role = self.role();
                if anchor != 0 {
                    self.anchored.insert(
                        anchor,
                        Anchored {
                            role,
                            index,
                            end: index + 1,
                        },
                    );
                }
                // Of a block scalar only the contents are known, and not where its head is.
                let in_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                self.timeout(index, anchor, span, !in_block);
                if let Some(frame) = self.frames.last_mut().filter(|frame| frame.mapping) {
                    if frame.key_next {
                        frame.take_key(text, span);
                        return Ok(());
                    }
                    if frame.key.as_ref().is_some_and(|key| key.text == "@type") {
                        let name = text.rsplit('/').next().unwrap_or_default();
                        frame.free |= FREE_MESSAGES.contains(&name);
                    }
                }
                self.node_done();
            }
            Event::Alias(anchor) => {
                let is_key = self
                    .frames
                    .last()
                    .is_some_and(|frame| frame.mapping && frame.key_next);
                if is_key {
                    return Err(shape(&span, "a key of the mapping is an alias"));
                }
                if !self.timeout(index, 0, span, true) {
                    let (role, for_messages) = (self.role(), self.is_for_messages());
                    self.aliases.push(Alias {
                        anchor,
                        role,
                        for_messages,
                        span,
                    });
                }
                self.node_done();
            }
            Event::MappingStart(style, anchor, _) => self.open(index, anchor, span, style, true),
            Event::SequenceStart(style, anchor, _) => self.open(index, anchor, span, style, false),
            Event::MappingEnd | Event::SequenceEnd => self.close(index)?,
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        index: usize,
        anchor: usize,
        span: Span,
        style: StructureStyle,
        mapping: bool,
    ) {
        let role = self.role();
        self.timeout(index, anchor, span, false);
        self.frames.push(Frame {
            role,
            mapping,
            index,
            anchor,
            span,
            flow: style == StructureStyle::Flow,
            key_next: true,
            key: None,
            only_fields: true,
            has_specifier: false,
            aggregated: false,
            timeouts: Vec::new(),
            free: false,
            edits_before: self.edits.len(),
            sources_before: self.sources.len(),
        });
    }

    /// What a node is that stands at this place.
    fn role(&self) -> Role {
        let Some(around) = self.frames.last() else {
            return Role::Other;
        };
        if around.role == Role::Free {
            return Role::Free;
        }
        if !around.mapping {
            return match around.role {
                Role::Sources => Role::Source,
                Role::Source | Role::Secret | Role::Free | Role::Other => Role::Other,
            };
        }
        // A key that is no text has no field's name.
        let key = around.key.as_ref().map_or("", |key| &*key.text);
        if around.key_next {
            Role::Other
        } else if FREE.contains(&key) {
            Role::Free
        } else if SECRETS.contains(&key) {
            Role::Secret
        } else if SOURCES.contains(&key) {
            Role::Source
        } else if LISTS_OF_SOURCES.contains(&key) {
            Role::Sources
        } else {
            Role::Other
        }
    }

    /// Notes a node that is the value of a timeout, and tells whether it is.
    fn timeout(&mut self, index: usize, anchor: usize, span: Span, replaceable: bool) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return false;
        };
        // Elsewhere, a field of this name is not ours to change.
        if !frame.role.is_source() || !frame.mapping || frame.key_next {
            return false;
        }
        let Some(key) = frame.key.as_ref().filter(|key| is_timeout(&key.text)) else {
            return false;
        };
        let key_end = key.span.byte_range().map_or(0, |range| range.end);
        frame.timeouts.push(Timeout {
            index,
            anchor,
            span,
            key_end,
            replaceable,
        });
        true
    }

    /// A key or a value is complete.
    fn node_done(&mut self) {
        if let Some(frame) = self.frames.last_mut().filter(|frame| frame.mapping) {
            if frame.key_next {
                // A collection as the key: no message of Envoy's has that.
                frame.only_fields = false;
                frame.key = None;
            }
            frame.key_next = !frame.key_next;
        }
    }

    fn close(&mut self, index: usize) -> Result<(), FirstResourcesError> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        if frame.anchor != 0 {
            let anchored = Anchored {
                role: frame.role,
                index: frame.index,
                end: index,
            };
            self.anchored.insert(frame.anchor, anchored);
        }
        if frame.free {
            self.edits.truncate(frame.edits_before);
            self.lookalikes
                .extend(self.sources.drain(frame.sources_before..));
        }
        if frame.mapping && frame.only_fields && frame.has_specifier {
            match frame.role {
                Role::Source | Role::Secret => self.set_timeout(&frame)?,
                Role::Free => self.lookalikes.push(frame.index),
                Role::Sources | Role::Other => {}
            }
        }
        self.node_done();
        Ok(())
    }

    fn set_timeout(&mut self, source: &Frame<'a>) -> Result<(), FirstResourcesError> {
        self.sources.push(source.index);
        if self.is_for_messages() {
            self.messages.push(source.index);
        }
        if source.aggregated {
            self.aggregated.insert(source.index);
        }
        let shared = source.role == Role::Secret && source.aggregated;
        for timeout in &source.timeouts {
            if !timeout.replaceable {
                return Err(shape(&timeout.span, "its value is no scalar on one line"));
            }
            if timeout.anchor != 0 {
                self.replaced.insert(timeout.anchor);
            }
            let edit = replacement(self.text, timeout, shared);
            self.edits
                .push(edit.ok_or_else(|| shape(&timeout.span, "its value is not found"))?);
        }
        if source.timeouts.is_empty() {
            let edit = insertion(self.text, source, shared);
            self.edits.push(edit.ok_or_else(|| {
                shape(
                    &source.span,
                    "the source is a mapping without braces in a list",
                )
            })?);
        }
        Ok(())
    }

    /// Whether the next node is the source of listeners or of clusters.
    fn is_for_messages(&self) -> bool {
        let around = self.frames.last().filter(|around| around.mapping);
        let key = around.and_then(|around| around.key.as_ref());
        key.is_some_and(|key| MESSAGES.contains(&&*key.text))
    }

    /// Whether listeners or clusters are fetched.
    fn fetches_messages(&self) -> bool {
        let aliases = self.aliases.iter().filter(|alias| alias.for_messages);
        let anchored = aliases.filter_map(|alias| self.anchored.get(&alias.anchor));
        let sources = self.messages.iter().copied();
        sources
            .chain(anchored.map(|anchored| anchored.index))
            .any(|index| self.sources.binary_search(&index).is_ok())
    }

    /// Sees to it that what is changed stands for nothing else at another place.
    fn check_aliases(&self, leaves_shared: bool) -> Result<(), FirstResourcesError> {
        let any = |list: &[usize], anchored: &Anchored| {
            let first = list.partition_point(|index| *index < anchored.index);
            list.get(first).is_some_and(|index| *index < anchored.end)
        };
        for alias in &self.aliases {
            let Some(anchored) = self.anchored.get(&alias.anchor) else {
                continue;
            };
            let is_source = self.sources.binary_search(&anchored.index).is_ok();
            let fits = match alias.role {
                // Where certificates are left out, one of both would be changed and the other one not.
                Role::Source | Role::Secret => {
                    let is_shared = leaves_shared && self.aggregated.contains(&anchored.index);
                    is_source && (!is_shared || alias.role == anchored.role)
                }
                Role::Sources => anchored.role == Role::Sources,
                Role::Free => !any(&self.sources, anchored),
                Role::Other => {
                    !is_source && anchored.role != Role::Sources && !any(&self.lookalikes, anchored)
                }
            };
            if !fits {
                let what = "an alias here stands for what is something else at its anchor";
                return Err(shape(&alias.span, what));
            }
            if self.replaced.contains(&alias.anchor) {
                return Err(shape(&alias.span, "an alias here stands for its value"));
            }
        }
        Ok(())
    }
}

impl<'a> Frame<'a> {
    fn take_key(&mut self, text: Cow<'a, str>, span: Span) {
        let name = &*text;
        if SPECIFIERS.contains(&name) {
            self.has_specifier = true;
            self.aggregated |= name == "ads";
        } else if !OTHER_FIELDS.contains(&name) && !is_timeout(name) {
            self.only_fields = false;
        }
        self.key = Some(Key { text, span });
        self.key_next = false;
    }
}

fn is_timeout(key: &str) -> bool {
    matches!(key, TIMEOUT | "initialFetchTimeout")
}

/// The field as the first one of a mapping, or `None` where that has no place for it.
fn insertion(text: &str, source: &Frame<'_>, shared: bool) -> Option<Edit> {
    let range = source.span.byte_range()?;
    let (place, field) = if source.flow {
        if text.get(range.clone())? != "{" {
            return None;
        }
        (range.end, format!("\"{TIMEOUT}\": \"{FOREVER}\","))
    } else {
        let before = text.get(..range.start)?;
        let line = before
            .rfind('\n')
            .map_or(before, |end| before.get(end + 1..).unwrap_or(""));
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        // In a list, the dash takes the place of spaces.
        let indentation = " ".repeat(line.chars().count());
        let field = format!("{TIMEOUT}: \"{FOREVER}\"{end}{indentation}");
        (range.start, field)
    };
    Some(Edit {
        kind: Kind::Insert,
        index: source.index,
        at: place..place,
        text: field,
        shared,
    })
}

/// The value 0 in place of another one.
fn replacement(text: &str, timeout: &Timeout, shared: bool) -> Option<Edit> {
    let range = timeout.span.byte_range()?;
    let (at, new) = if range.is_empty() {
        // Where nothing is written, the value begins after the colon of its key.
        let rest = text.get(timeout.key_end..)?;
        let colon = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if !rest.get(colon..)?.starts_with(':') {
            return None;
        }
        let place = timeout.key_end + colon + 1;
        (place..place, format!(" \"{FOREVER}\""))
    } else {
        (range, format!("\"{FOREVER}\""))
    };
    Some(Edit {
        kind: Kind::Replace,
        index: timeout.index,
        at,
        text: new,
        shared,
    })
}

fn shape(span: &Span, what: &'static str) -> FirstResourcesError {
    FirstResourcesError::Shape {
        what,
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}
