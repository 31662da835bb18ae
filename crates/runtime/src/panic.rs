//! What a caught panic says.

use std::any::Any;

/// Returns the text of a caught panic, or that its payload is no text.
///
/// `payload` is what `std::panic::catch_unwind` returns as its error.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_found_in_either_form() {
        assert_eq!(panic_message(&"out of cheese"), "out of cheese");
        assert_eq!(panic_message(&"owned".to_owned()), "owned");
        assert_eq!(panic_message(&7), "a payload that is no text");
    }
}
