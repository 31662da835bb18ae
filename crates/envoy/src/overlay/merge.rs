//! The rules of a merge.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::document::{Item, Node};

/// The fields below which keys are the user's own, so that another spelling is another key.
const FREE: [&str; 7] = [
    "metadata",
    "filter_metadata",
    "typed_filter_metadata",
    "metadata_match",
    "static_layer",
    "json_format",
    "filter_context",
];

/// The field that says of which type a message is.
const TYPE: &str = "@type";

/// A field that is of another kind in the overlay.
pub(super) struct Mismatch {
    /// With dots between its names.
    pub(super) field: String,
    /// Its line and column in the overlay.
    pub(super) at: (usize, usize),
    pub(super) found: &'static str,
    pub(super) expected: &'static str,
}

/// Merges an overlay over a document. It goes no deeper than the shallower of both.
pub(super) fn over(base: &mut Rc<Item>, overlay: &Rc<Item>) -> Result<(), Mismatch> {
    value(base, overlay, &mut Vec::new(), false)
}

fn value<'a>(
    base: &mut Rc<Item>,
    overlay: &'a Rc<Item>,
    path: &mut Vec<&'a str>,
    is_free: bool,
) -> Result<(), Mismatch> {
    if base.node.is_null() {
        *base = Rc::clone(overlay);
        return Ok(());
    }
    match (&base.node, &overlay.node) {
        (Node::Mapping(_), Node::Mapping(new)) if !is_typed(new) => {}
        (Node::Sequence(_), Node::Sequence(_)) => {}
        (Node::Mapping(_), Node::Mapping(_)) | (Node::Scalar(..), Node::Scalar(..)) => {
            *base = Rc::clone(overlay);
            return Ok(());
        }
        (Node::Mapping(_) | Node::Sequence(_) | Node::Scalar(..), new) => {
            return Err(Mismatch {
                field: path.join("."),
                at: overlay.at,
                found: new.kind(),
                expected: base.node.kind(),
            });
        }
    }
    // What an alias shares stays as it is in its other places.
    match (&mut Rc::make_mut(base).node, &overlay.node) {
        (Node::Sequence(all), Node::Sequence(more)) => all.extend(more.iter().cloned()),
        (Node::Mapping(fields), Node::Mapping(new)) => merge_fields(fields, new, path, is_free)?,
        (Node::Scalar(..) | Node::Sequence(_) | Node::Mapping(_), _) => {}
    }
    Ok(())
}

fn merge_fields<'a>(
    fields: &mut Vec<(String, Rc<Item>)>,
    new: &'a [(String, Rc<Item>)],
    path: &mut Vec<&'a str>,
    is_free: bool,
) -> Result<(), Mismatch> {
    let name = |key: &str| spelling(key, is_free).into_owned();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    places.extend((fields.iter().enumerate()).map(|(place, (key, _))| (name(key), place)));
    let mut removed = Vec::new();
    for (key, item) in new {
        let place = places.get(&name(key)).copied();
        let field = place.and_then(|place| fields.get_mut(place));
        match (place, field) {
            (Some(place), Some((_, base))) if item.node.is_null() => {
                *base = Rc::clone(item);
                removed.push(place);
            }
            (_, Some((_, base))) => {
                path.push(key);
                let below = is_free || FREE.contains(&&*spelling(key, false));
                value(base, item, path, below)?;
                path.pop();
            }
            // A null has nothing to remove, and is nothing.
            (_, None) if item.node.is_null() => {}
            (_, None) => {
                places.insert(name(key), fields.len());
                fields.push((key.clone(), Rc::clone(item)));
            }
        }
    }
    removed.sort_unstable();
    let mut place = 0;
    fields.retain(|(_, item)| {
        // The overlay may name it again, in the other spelling.
        let stays = !item.node.is_null() || removed.binary_search(&place).is_err();
        place += 1;
        stays
    });
    Ok(())
}

fn is_typed(fields: &[(String, Rc<Item>)]) -> bool {
    fields.iter().any(|(key, _)| key == TYPE)
}

/// The name of a field as Protobuf has it: `staticResources` is `static_resources`.
fn spelling(key: &str, is_free: bool) -> Cow<'_, str> {
    let is_name = key.starts_with(|first: char| first.is_ascii_lowercase())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_free || !is_name || !key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return key.into();
    }
    let mut name = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name.into()
}
