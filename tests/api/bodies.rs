//! How a body is read: its media type, its size, its time, and its JSON.

use std::{convert::Infallible, io, pin::Pin, task};

use axum::body::{Body, Bytes};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;

use crate::harness::{Store, TestApp, TestSite};

on_both_stores! {
    any_json_media_type_is_taken,
    another_media_type_or_none_is_refused,
    a_content_encoding_is_refused,
    what_is_no_json_object_is_malformed,
    a_byte_order_mark_is_malformed,
    invalid_utf8_is_malformed,
    a_field_of_ours_given_twice_is_malformed,
    unknown_fields_are_ignored_also_when_given_twice,
    nothing_is_normalised,
    a_secret_that_was_pasted_wrong_is_told_apart,
    sixteen_kibibytes_are_read_and_not_one_byte_more,
    a_body_of_unknown_length_is_cut_off_at_the_limit,
    a_body_that_breaks_off_is_malformed,
    a_body_that_never_ends_times_out,
}

const CALLS: [&str; 4] = [
    "/mirrory/generate-token",
    "/mirrory/validate-token",
    "/mirrory/revoke-token",
    "/mirrory/release-machine",
];
const GENERATE: &str = CALLS[0];

async fn start(store: Store) -> (TestApp, TestSite) {
    let settings = [("limits.failures_per_minute", "0")];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("professional").await;
    (app, site)
}

fn body(site: &TestSite) -> String {
    json!({"wp_user_id": 1, "proxy_secret": site.secret}).to_string()
}

async fn any_json_media_type_is_taken(store: Store) {
    let (app, site) = start(store).await;
    for media_type in [
        "application/json",
        "APPLICATION/Json",
        "application/json; charset=utf-8",
        "application/json;charset=latin1;x=\"y\"",
        " application/json ",
        "application/ld+json",
        "application/vnd.shop.v1+json; v=1",
        "model/gltf+json",
    ] {
        let call = app.post(GENERATE).header("content-type", media_type);
        let answer = call.body(body(&site)).send().await;
        assert_eq!(answer.status, 200, "{media_type}");
    }
}

async fn another_media_type_or_none_is_refused(store: Store) {
    let (app, site) = start(store).await;
    for media_type in [
        "",
        "json",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json-seq",
        "application/+json",
        "/x+json",
        "+json",
        "application/json, text/plain",
        "application/xml; a=application/json",
    ] {
        for path in CALLS {
            let call = app.post(path).header("content-type", media_type);
            let answer = call.body(body(&site)).send().await;
            let expected = (415, "unsupported_media_type");
            assert_eq!(answer.problem(), expected, "{path} {media_type}");
        }
    }
    let answer = app.post(GENERATE).body(body(&site)).send().await;
    assert_eq!(answer.problem(), (415, "unsupported_media_type"));
    let twice = app
        .post(GENERATE)
        .header("content-type", "application/json");
    let answer = twice.text(body(&site)).send().await;
    assert_eq!(answer.problem(), (415, "unsupported_media_type"));
}

async fn a_content_encoding_is_refused(store: Store) {
    let (app, site) = start(store).await;
    for encoding in ["gzip", "br", "deflate", "identity", ""] {
        for path in CALLS {
            let call = app.post(path).header("content-encoding", encoding);
            let answer = call.text(body(&site)).send().await;
            let expected = (415, "unsupported_media_type");
            assert_eq!(answer.problem(), expected, "{path} {encoding}");
        }
    }
}

async fn what_is_no_json_object_is_malformed(store: Store) {
    let (app, site) = start(store).await;
    let good = body(&site);
    for text in [
        "",
        " ",
        "{",
        "}",
        "{}{}",
        "null",
        "true",
        "1",
        "\"text\"",
        "[]",
        "[1, \"secret\", \"machine\"]",
        "{\"wp_user_id\": 1,}",
        "{'wp_user_id': 1}",
        "{\"wp_user_id\": 01}",
        "{\"wp_user_id\": NaN}",
        "{\"a\": \"\\x\"}",
        "{\"a\": \"\n\"}",
        "{\"a\": 1} // comment",
        "\u{0}",
        &good.replace(':', "="),
        &format!("{good}x"),
        &format!("\u{a0}{good}"),
    ] {
        for path in CALLS {
            let answer = app.post(path).text(text.to_owned()).send().await;
            let expected = (400, "malformed_json");
            assert_eq!(answer.problem(), expected, "{path} {text}");
        }
    }
    let spaced = format!("\r\n\t {good} \r\n\t");
    assert_eq!(app.post(GENERATE).text(spaced).send().await.status, 200);
}

async fn a_byte_order_mark_is_malformed(store: Store) {
    let (app, site) = start(store).await;
    let text = body(&site);
    let marked = format!("\u{feff}{text}");
    for (body, encoding) in [
        (marked.clone().into_bytes(), "UTF-8"),
        (
            marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "UTF-16",
        ),
        (
            marked.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            "UTF-16",
        ),
    ] {
        let answer = app.post(GENERATE).text(body).send().await;
        assert_eq!(answer.problem(), (400, "malformed_json"));
        let detail = answer.body["detail"].as_str().unwrap();
        let told = format!("begins with the byte-order mark of {encoding}: ");
        assert!(detail.contains(&told), "{detail}");
    }
    for unmarked in [u16::to_le_bytes, u16::to_be_bytes] {
        let body: Vec<u8> = text.encode_utf16().flat_map(unmarked).collect();
        let answer = app.post(GENERATE).text(body).send().await;
        assert_eq!(answer.problem(), (400, "malformed_json"));
    }
}

async fn invalid_utf8_is_malformed(store: Store) {
    let (app, site) = start(store).await;
    let text = body(&site);
    let open = text.strip_suffix('}').unwrap();
    for field in [
        &b", \"machine_id\": \"\xff\"}"[..],
        b", \"machine_id\": \"\xc3\"}",
        b", \"machine_id\": \"\xed\xa0\x80\"}",
        b", \"unknown\": \"\xff\"}",
        b", \"\xff\": 1}",
    ] {
        let bytes = [open.as_bytes(), field].concat();
        let answer = app.post(GENERATE).text(bytes).send().await;
        assert_eq!(answer.problem(), (400, "malformed_json"), "{field:?}");
    }
    // An escape that is half a character cannot be a string of ours either.
    let escaped = format!(r#"{open}, "machine_id": "\ud800"}}"#);
    let answer = app.post(GENERATE).text(escaped).send().await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
}

async fn a_field_of_ours_given_twice_is_malformed(store: Store) {
    let (app, site) = start(store).await;
    let text = body(&site);
    let open = text.strip_suffix('}').unwrap();
    for field in [
        r#", "wp_user_id": 1}"#,
        r#", "proxy_secret": "x"}"#,
        r#", "machine_id": "a", "machine_id": "a"}"#,
        r#", "machine_id": null, "machine_id": null}"#,
        r#", "wp_user_\u0069d": 1}"#,
    ] {
        let answer = app
            .post(GENERATE)
            .text(format!("{open}{field}"))
            .send()
            .await;
        assert_eq!(answer.problem(), (400, "malformed_json"), "{field}");
    }
    for (path, text) in [
        (
            CALLS[1],
            r#"{"token": "a", "token": "a", "machine_id": "m"}"#,
        ),
        (
            CALLS[1],
            r#"{"token": "a", "machine_id": "m", "machine_id": "m"}"#,
        ),
        (
            CALLS[2],
            r#"{"token_id": "a", "token_id": "a", "proxy_secret": "x"}"#,
        ),
        (
            CALLS[3],
            r#"{"token_id": "a", "proxy_secret": "x", "proxy_secret": "x"}"#,
        ),
    ] {
        let answer = app.post(path).text(text).send().await;
        assert_eq!(answer.problem(), (400, "malformed_json"), "{text}");
    }
}

async fn unknown_fields_are_ignored_also_when_given_twice(store: Store) {
    let (app, site) = start(store).await;
    let text = body(&site);
    let open = text.strip_suffix('}').unwrap();
    for field in [
        r#", "a": 1, "a": 2}"#,
        r#", "": {"wp_user_id": 1}}"#,
        r#", "WP_USER_ID": 2, "token": "x"}"#,
        r#", "valid": true, "a": 1e999}"#,
        &format!(r#", "deep": {}{}}}"#, "[".repeat(5000), "]".repeat(5000)),
    ] {
        let answer = app
            .post(GENERATE)
            .text(format!("{open}{field}"))
            .send()
            .await;
        assert_eq!(answer.ok()["user_id"], 1, "{field}");
    }
}

async fn nothing_is_normalised(store: Store) {
    let (app, site) = start(store).await;
    for secret in [
        format!(" {}", site.secret),
        format!("{}\n", site.secret),
        site.secret.to_uppercase(),
    ] {
        let answer = app
            .generate(json!({"wp_user_id": 1, "proxy_secret": secret}))
            .await;
        assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
    }
    let issued = app.issue(&site).await;
    let body = app.validate(&issued.token, " A\u{301} ").await.ok();
    assert_eq!(body["machine_id"], " A\u{301} ");
}

async fn a_secret_that_was_pasted_wrong_is_told_apart(store: Store) {
    let settings = [
        ("limits.failures_per_minute", "0"),
        ("bootstrap.proxy_secret", "a secret of my own"),
    ];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("professional").await;
    let refusal = async |secret: &str| {
        let body = json!({"wp_user_id": 1, "proxy_secret": secret});
        let answer = app.generate(body).await;
        assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
        let detail = answer.body["detail"].as_str().unwrap();
        (
            detail.contains("characters that no secret has"),
            answer.body["title"].clone(),
        )
    };
    let (middle, last) = (site.secret.len() / 2, site.secret.len() - 1);
    let (begin, end) = site.secret.split_at(middle);
    let other = if site.secret.ends_with('0') { '1' } else { '0' };
    let title = refusal("another secret of mine").await.1;
    for secret in [
        format!(" {}", site.secret),
        format!("{}\n", site.secret),
        format!("{}\u{a0}", site.secret),
        format!("{begin} {end}"),
        format!("{begin}\u{200b}{end}"),
        format!("\"{}\"", site.secret),
        format!("'{}'", site.secret),
        format!("{}\"", site.secret),
        format!("mps_{}", site.secret[4..].to_uppercase()),
        "a secret of my own ".to_owned(),
        "'a secret of my own'".to_owned(),
        "a secret\0 of my own".to_owned(),
    ] {
        assert_eq!(refusal(&secret).await, (true, title.clone()), "{secret:?}");
    }
    // What may be a secret is answered alike, whichever part is wrong.
    for secret in [
        format!("{}{other}", &site.secret[..last]),
        site.secret[..last].to_owned(),
        site.secret[1..].to_owned(),
        "a secret  of my own".to_owned(),
        "A secret of my own".to_owned(),
        "x".to_owned(),
    ] {
        assert_eq!(refusal(&secret).await, (false, title.clone()), "{secret:?}");
    }
    let own = json!({"wp_user_id": 1, "proxy_secret": "a secret of my own"});
    app.generate(own).await.ok();
}

async fn sixteen_kibibytes_are_read_and_not_one_byte_more(store: Store) {
    let (app, site) = start(store).await;
    let padded = |length| format!("{:length$}", body(&site));
    let answer = app.post(GENERATE).text(padded(16_384)).send().await;
    assert_eq!(answer.status, 200);
    for path in CALLS {
        let answer = app.post(path).text(padded(16_385)).send().await;
        assert_eq!(answer.problem(), (413, "body_too_large"), "{path}");
    }
    // What is announced is believed before it has come.
    let call = app.post(GENERATE).header("content-length", "16385");
    let answer = call.text("{}").send().await;
    assert_eq!(answer.problem(), (413, "body_too_large"));
    let call = app
        .post(GENERATE)
        .header("content-length", u64::MAX.to_string());
    let answer = call.text("{}").send().await;
    assert_eq!(answer.problem(), (413, "body_too_large"));
}

/// A body that comes in pieces, of a length that nobody knows.
struct Pieces<E> {
    left: usize,
    size: usize,
    end: End<E>,
}

enum End<E> {
    Whole,
    Broken(Option<E>),
    Never,
}

impl<E: Unpin> futures_util::Stream for Pieces<E> {
    type Item = Result<Frame<Bytes>, E>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Self::Item>> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let piece = Bytes::from(vec![b' '; self.size]);
            return task::Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.end {
            End::Whole => task::Poll::Ready(None),
            End::Broken(error) => task::Poll::Ready(error.take().map(Err)),
            End::Never => task::Poll::Pending,
        }
    }
}

async fn a_body_of_unknown_length_is_cut_off_at_the_limit(store: Store) {
    let (app, _) = start(store).await;
    for (pieces, size, expected) in [
        (16, 1024, (400, "malformed_json")),
        (17, 1024, (413, "body_too_large")),
        (1, 16_385, (413, "body_too_large")),
        (usize::MAX, 1, (413, "body_too_large")),
    ] {
        let stream = Pieces::<Infallible> {
            left: pieces,
            size,
            end: End::Whole,
        };
        let body = Body::new(StreamBody::new(stream));
        let answer = app.post(GENERATE).text(body).send().await;
        assert_eq!(answer.problem(), expected, "{pieces} of {size}");
    }
}

async fn a_body_that_breaks_off_is_malformed(store: Store) {
    let (app, _) = start(store).await;
    let end = End::Broken(Some(io::Error::from(io::ErrorKind::ConnectionReset)));
    let stream = Pieces {
        left: 1,
        size: 8,
        end,
    };
    let answer = app
        .post(GENERATE)
        .text(Body::new(StreamBody::new(stream)))
        .send()
        .await;
    assert_eq!(answer.problem(), (400, "malformed_json"));
}

async fn a_body_that_never_ends_times_out(store: Store) {
    let settings = [("server.body_timeout_seconds", "1")];
    let app = TestApp::with(store, &settings).await;
    let stream = Pieces::<Infallible> {
        left: 1,
        size: 8,
        end: End::Never,
    };
    let answer = app
        .post(GENERATE)
        .text(Body::new(StreamBody::new(stream)))
        .send()
        .await;
    assert_eq!(answer.problem(), (408, "request_timeout"));
}
