//! What is secret, and where it may be.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{client::Answer, harness::Place};

/// What is in no output at all, and what is in the one that documents it.
#[derive(Default)]
pub struct Secrets {
    never: BTreeSet<String>,
    once: BTreeSet<String>,
}

impl Secrets {
    pub fn never(&mut self, secret: &str) {
        assert!(secret.len() >= 8, "too short to be found for certain");
        self.never.insert(secret.to_owned());
    }

    pub fn token(&mut self, answer: &Answer) -> String {
        let token = answer.field("token");
        let signature = token.rsplit('.').next().unwrap();
        self.never(signature);
        self.never(&token);
        token
    }

    /// A proxy secret in the document that shows it once.
    pub fn shown_in(&mut self, document: &Value) -> String {
        let secret = document["proxy_secret"].as_str().unwrap().to_owned();
        self.once.insert(secret.clone());
        secret
    }

    pub fn assert_kept(&self, place: &Place) {
        let said = place.said();
        let logs: String = said.iter().map(|(_, text)| text.as_str()).collect();
        assert!(
            logs.contains("sqlx::query"),
            "the log is not as full as it can be"
        );
        for secret in &self.never {
            for (file, text) in &said {
                let file = file.display();
                assert!(!text.contains(secret.as_str()), "{secret} in {file}");
            }
        }
        for secret in &self.once {
            let files = said
                .iter()
                .filter(|(_, text)| text.contains(secret.as_str()));
            let files: Vec<_> = files.map(|(file, _)| file).collect();
            let is_right = matches!(&files[..], [file] if file.extension().unwrap() == "stdout");
            assert!(is_right, "{secret} in {files:?}");
        }
    }
}
