use axum::http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

async fn get_from(path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router::<()>().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    (parts.status, parts.headers, text)
}

/// What a page or a style sheet makes the browser load: the values of `src`, `href` and `url()`.
fn loaded(text: &str) -> Vec<&str> {
    let after = |mark: &'static str, end: char| {
        let values = text.split(mark).skip(1);
        values.filter_map(move |rest| Some(rest.split_once(end)?.0))
    };
    let values = after("src=\"", '"').chain(after("href=\"", '"'));
    values.chain(after("url(", ')')).collect()
}

#[tokio::test]
async fn document_is_served_as_the_command_prints_it() {
    let (status, headers, body) = get_from("/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/json");
    let served: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(served, serde_json::to_value(document()).unwrap());
}

#[tokio::test]
async fn page_is_found_below_any_path_of_a_reverse_proxy() {
    let (status, headers, _) = get_from("/docs").await;
    assert_eq!(status, 308);
    assert_eq!(headers["location"], "docs/");
    let (_, _, initializer) = get_from("/docs/swagger-initializer.js").await;
    assert!(
        initializer.contains(r#""url": "../openapi.json""#),
        "{initializer}"
    );
    assert!(
        initializer.contains(r#""validatorUrl": "none""#),
        "{initializer}"
    );
}

#[tokio::test]
async fn page_and_its_styles_load_nothing_but_what_is_served_beside_them() {
    let (status, headers, page) = get_from("/docs/").await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/html");
    let assets = loaded(&page);
    assert_eq!(assets.len(), 7, "{assets:?}");
    for asset in assets {
        let path = format!("/docs/{}", asset.trim_start_matches("./"));
        let (status, headers, text) = get_from(&path).await;
        assert_eq!(status, 200, "{path}");
        if headers["content-type"] == "text/css" {
            let inner = loaded(&text);
            assert!(
                inner.iter().all(|url| url.contains("data:")),
                "{path}: {inner:?}"
            );
        }
    }
}

#[tokio::test]
async fn browser_is_told_to_load_nothing_from_elsewhere() {
    for path in ["/docs/", "/docs/index.html", "/docs/swagger-ui-bundle.js"] {
        let (_, headers, _) = get_from(path).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("http"), "{path}: {policy}");
    }
}

#[tokio::test]
async fn unknown_asset_is_not_found() {
    let (status, _, _) = get_from("/docs/nothing-of-ours").await;
    assert_eq!(status, 404);
}
