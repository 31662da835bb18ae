//! The page for people, at `/`.
//!
//! It is one file. A browser takes nothing else from anywhere, and runs only the script and the style that the
//! policy names by their hashes. It reads `/status` and `/events` like everyone else.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::routes::{Answer, answer};

const PAGE: &str = include_str!("page.html");

/// What a browser may do with the page. The hashes are those of its script and its style, and a test compares them.
const POLICY: &str = concat!(
    "default-src 'none'; ",
    "script-src 'sha256-KOamJenjxoSaNKr6KZ/g8YBK9J4IwA+4uC3tlnn8IJo='; ",
    "style-src 'sha256-odAMnxLGvTibD7WKSEHLxv8oLCVoHnKwSBy4OJRkLIw='; ",
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
);

/// Whether a client wants a page. Browsers name HTML, and programs ask for anything.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    let mut kinds = accepted.flat_map(|accepted| accepted.split(','));
    kinds.any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let names_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        names_html && !is_refused
    })
}

/// The page. `Vary` tells caches that programs get a list in its place.
pub(super) fn page() -> Answer {
    let body = Full::new(Bytes::from_static(PAGE.as_bytes()));
    let body = Either::Left(body);
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", body);
    guard(&mut page);
    page
}

fn guard<B>(page: &mut Response<B>) {
    let same_origin = "same-origin";
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            same_origin,
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            same_origin,
        ),
        (VARY, "accept"),
    ];
    for (name, value) in headers {
        page.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// What is between the only begin and the only end of an element.
    fn inside(tag: &str) -> &'static str {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
        let (_, rest) = PAGE.split_once(&begin).unwrap();
        rest.split_once(&end).unwrap().0
    }

    fn hash_of(text: &str) -> String {
        let digest = STANDARD.encode(Sha256::digest(text.as_bytes()));
        format!("'sha256-{digest}'")
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_and_allows_nothing_else() {
        let script = format!("script-src {}; ", hash_of(inside("script")));
        let style = format!("style-src {}; ", hash_of(inside("style")));
        assert!(POLICY.contains(&script), "not in the policy: {script}");
        assert!(POLICY.contains(&style), "not in the policy: {style}");
        assert!(POLICY.starts_with("default-src 'none'; "));
        assert!(POLICY.ends_with("frame-ancestors 'none'"));
        assert!(!POLICY.contains("unsafe"));
    }

    #[test]
    fn the_page_takes_nothing_from_outside_and_puts_no_text_in_as_markup() {
        for word in [
            "http:",
            "https:",
            "//cdn",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "style=",
            " on",
        ] {
            // Listeners are added by the script. As attributes the policy would forbid them.
            let found = match word {
                " on" => PAGE.split('<').any(|tag| {
                    let tag = tag.split('>').next().unwrap_or_default();
                    tag.split_whitespace()
                        .any(|part| part.starts_with("on") && part.contains("=\""))
                }),
                word => PAGE.contains(word),
            };
            assert!(!found, "{word}");
        }
        assert!(PAGE.len() < 40_000, "{}", PAGE.len());
    }

    /// A reverse proxy, such as that of kubectl, serves the page below a prefix that only the browser knows.
    #[test]
    fn the_page_works_behind_a_prefix() {
        for word in ["href=\"/", "fetch('/", "fetch(`/", "location.origin"] {
            assert!(!PAGE.contains(word), "{word}");
        }
        for word in ["href=\"status\"", "fetch('status'", "fetch('events'"] {
            assert!(PAGE.contains(word), "{word}");
        }
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_does_not() {
        let wanted = |accepted: &[&'static str]| {
            let values = accepted.iter().copied().map(HeaderValue::from_static);
            is_wanted(&values.map(|value| (ACCEPT, value)).collect())
        };
        assert!(wanted(&["text/html,application/xhtml+xml,*/*;q=0.8"]));
        assert!(wanted(&["application/json", "Text/HTML ; q=0.5"]));
        for none in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["text/html;q=0"],
            &["text/html2"],
        ] {
            assert!(!wanted(none), "{none:?}");
        }
    }

    #[test]
    fn the_page_is_guarded() {
        let page = page();
        let headers = page.headers();
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY);
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[VARY], "accept");
    }
}
