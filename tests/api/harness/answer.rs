//! What came back, and what is promised of everything that comes back.

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, header},
    response::Response,
};
use http_body_util::BodyExt;
use serde_json::Value;

use super::Issued;

/// An answer, read to its end. Its body is null when it is no JSON.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub body: Value,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            bytes,
        }
    }

    /// The one value of a header; none when it is not there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).into_iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value.to_str().unwrap())
    }

    /// `Retry-After`, in seconds.
    pub fn retry_after(&self) -> u64 {
        self.header("retry-after").unwrap().parse().unwrap()
    }

    /// The body of a 200.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The token of a 200 of generate-token.
    pub fn issued(self) -> Issued {
        let body = self.ok();
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        Issued {
            token: text("token"),
            token_id: text("token_id"),
            expires_at: text("expires_at"),
        }
    }

    /// Whether this is a 200 with `valid: true`.
    pub fn is_valid(&self) -> bool {
        self.status == 200 && self.body["valid"] == true
    }

    /// The reason of a 200 with `valid: false`.
    pub fn reason(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.body["valid"], false, "{}", self.body);
        self.body["reason"].as_str().unwrap()
    }

    /// The status and the code of a problem.
    pub fn problem(&self) -> (u16, &str) {
        let code = self.body["error"].as_str();
        let code = code.unwrap_or_else(|| panic!("{} is no problem: {}", self.status, self.body));
        (self.status, code)
    }

    /// The names of the bad fields of a 422.
    pub fn bad_fields(&self) -> Vec<&str> {
        assert_eq!(self.problem(), (422, "invalid_request"));
        let errors = self.body["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect()
    }

    pub(super) fn check_promises(&self, method: &Method, path: &str) {
        let context = format!("{method} {path}: {} {}", self.status, self.body);
        let request_id = self.header("x-request-id").expect(&context);
        assert!(
            (1..=128).contains(&request_id.len())
                && request_id.bytes().all(|byte| byte.is_ascii_graphic()),
            "{context}"
        );
        if *method == Method::HEAD {
            assert!(self.bytes.is_empty(), "{context}");
            return;
        }
        let secrets = [
            "token",
            "access_token",
            "secret",
            "proxy_secret",
            "recovery_codes",
        ];
        let has_secret = secrets.iter().any(|secret| self.body.get(secret).is_some());
        if has_secret || self.body.pointer("/data/token").is_some() {
            assert_eq!(self.header("cache-control"), Some("no-store"), "{context}");
        }
        let is_probe = matches!(path, "/mirrory/health" | "/livez" | "/readyz");
        if self.status >= 400 && path == "/api/v1/login" {
            assert_eq!(self.body["status"], self.status, "{context}");
            assert!(self.body["message"].is_string(), "{context}");
        } else if self.status >= 400 && !(is_probe && self.status == 503) {
            self.check_problem(request_id, &context);
        }
    }

    fn check_problem(&self, request_id: &str, context: &str) {
        let media_type = self.header(header::CONTENT_TYPE.as_str());
        assert_eq!(media_type, Some("application/problem+json"), "{context}");
        assert_eq!(self.body["status"], self.status, "{context}");
        assert_eq!(self.body["request_id"], request_id, "{context}");
        let code = self.body["error"].as_str().expect(context);
        let type_uri = match code {
            "quota_exceeded" => {
                "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
            }
            code => format!("urn:mirrory:problem:{}", code.replace('_', "-")),
        };
        assert_eq!(self.body["type"], type_uri, "{context}");
        match self.status {
            401 if code != "invalid_proxy_secret" => {
                assert!(self.header("www-authenticate").is_some(), "{context}");
            }
            405 => assert!(self.header("allow").is_some(), "{context}"),
            429 => assert!(self.retry_after() >= 1, "{context}"),
            503 => assert_eq!(self.retry_after(), 1, "{context}"),
            _ => {}
        }
        if self.status >= 500 {
            let members: Vec<_> = self.body.as_object().unwrap().keys().collect();
            let expected = ["error", "request_id", "status", "title", "type"];
            let mut members: Vec<_> = members.into_iter().map(String::as_str).collect();
            members.sort_unstable();
            assert_eq!(members, expected, "{context}");
        }
    }
}
