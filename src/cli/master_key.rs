//! `mirrory key rotate-master`

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;
use serde_json::json;

use super::{
    Context,
    output::{Answer, Failure},
};
use crate::{
    app::{RotatedMasterKey, rotate_master_key, warn_if_others_may_read},
    keys::{Rewrapped, vault::MasterKey},
};

pub(super) async fn rotate(
    context: &Context,
    new_key_file: Option<PathBuf>,
) -> Result<Answer, Failure> {
    let new = new_key_file.as_deref().map(read).transpose()?;
    let database = context.open_store().await?;
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    let rotated = rotate_master_key(config, &database, new, clock, randomness).await?;
    let status = match rotated.rewrapped {
        Rewrapped::Now => "rotated",
        Rewrapped::Before => "unchanged",
    };
    let document = json!({ "status": status, "file": rotated.file });
    Ok(Answer::Text(advice(&rotated), document))
}

fn advice(rotated: &RotatedMasterKey) -> String {
    let done = match rotated.rewrapped {
        Rewrapped::Now => "The store has another master key.",
        Rewrapped::Before => "The store had that master key already.",
    };
    match &rotated.file {
        Some(file) => format!(
            "{done} It is in {}: back it up, and make a back-up of the store, for those of before \
             open with the key of before alone.",
            file.display()
        ),
        None => format!("{done} Set secrets.master_key to it, for every instance."),
    }
}

fn read(file: &Path) -> Result<MasterKey, Failure> {
    let text = if file == Path::new("-") {
        let mut text = Zeroizing::new(String::new());
        io::stdin().lock().read_to_string(&mut text)?;
        text
    } else {
        let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", file.display()));
        let text = Zeroizing::new(fs::read_to_string(file).map_err(unreadable)?);
        if file.is_file() {
            warn_if_others_may_read(file).map_err(unreadable)?;
        }
        text
    };
    let refused = |invalid| Failure::usage(format!("the new master key {invalid}"));
    MasterKey::parse(&text).map_err(refused)
}
