//! What a request presents in `Authorization`.

use axum::http::{HeaderMap, header};

/// What was presented, by its scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// `Authorization: token …`
    ApiToken(&'a str),
    /// `Authorization: Bearer …` (RFC 6750, section 2.1)
    Bearer(&'a str),
    /// Without a scheme.
    Bare(&'a str),
}

impl<'a> Presented<'a> {
    /// What the one header of the request says; none when there is no such header, or more than one.
    pub(super) fn read(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = value.to_str().ok()?.trim();
        let Some((scheme, rest)) = text.split_once(' ') else {
            return Some(Self::Bare(text));
        };
        // A scheme's name has no case (RFC 9110, section 11.1).
        if scheme.eq_ignore_ascii_case("token") {
            Some(Self::ApiToken(rest.trim_start()))
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self::Bearer(rest.trim_start()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| {
            let value = HeaderValue::from_static(value);
            (header::AUTHORIZATION, value)
        });
        values.collect()
    }

    #[test]
    fn the_scheme_says_what_it_is_in_any_case() {
        let read = |value| Presented::read(&headers(&[value])).map(|read| format!("{read:?}"));
        assert_eq!(read("token mat_x").unwrap(), "ApiToken(\"mat_x\")");
        assert_eq!(read("Token  mat_x").unwrap(), "ApiToken(\"mat_x\")");
        assert_eq!(read("BEARER a.b.c").unwrap(), "Bearer(\"a.b.c\")");
        assert_eq!(read("a.b.c").unwrap(), "Bare(\"a.b.c\")");
        assert_eq!(read("Basic YTpi"), None);
    }

    #[test]
    fn two_headers_are_none() {
        assert_eq!(Presented::read(&headers(&["a.b.c", "a.b.c"])), None);
        assert_eq!(Presented::read(&headers(&[])), None);
    }
}
