//! `mirrory export` and `mirrory import`

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use serde_json::json;

use super::{
    Context,
    output::{Answer, Failure, Format},
    progress::{Progress, Unit},
};
use crate::{
    app::{make_store_for_import, present_master_keys, warn_of_unknown_plans},
    moving::{self, Export, Exported},
    new_file::NewFile,
    store::database::COMMAND_DEADLINE,
};

/// How much is read or written at once.
const BUFFER: usize = 1 << 16;

/// How many rows are written before that is told.
const ROWS_PER_STEP: u64 = 1000;

pub(super) async fn export(
    context: &Context,
    output: &Path,
    format: Format,
) -> Result<Answer, Failure> {
    let is_stdout = output == Path::new("-");
    if is_stdout && format == Format::Json {
        let problem = "--json needs --output FILE: without it, stdout is the export";
        return Err(Failure::usage(problem));
    }
    let database = context.open_store().await?;
    let export = Export::begin(&database).await?;
    if is_stdout {
        write(context, export, io::stdout()).await?;
        return Ok(Answer::Nothing);
    }
    let unwritable =
        |error: io::Error| Failure::new(format!("cannot write {}: {error}", output.display()));
    let mut file = NewFile::create_new(output).map_err(unwritable)?;
    let exported = write(context, export, &mut file).await?;
    file.finish().map_err(unwritable)?;
    let rows: u64 = exported.rows.values().sum();
    let text = format!(
        "{rows} rows are in {}. To go on elsewhere, carry over the master key and the configuration, \
         too.",
        output.display()
    );
    let document = json!({
        "file": output, "rows": exported.rows, "sha256": exported.sha256,
    });
    Ok(Answer::Text(text, document))
}

async fn write(context: &Context, export: Export, output: impl Write) -> Result<Exported, Failure> {
    tracing::info!("exporting the store as it is now; what servers do later is not in it");
    let output = BufWriter::with_capacity(BUFFER, output);
    let clock = &context.clock;
    let mut progress = Progress::new("exported", Unit::Rows, Some(export.rows()), clock);
    let mut rows = 0;
    let written = || {
        rows += 1;
        if rows % ROWS_PER_STEP == 0 {
            progress.reach(rows);
        }
    };
    Ok(export.write(output, clock, written).await?)
}

pub(super) async fn import(context: &Context, file: &Path) -> Result<Answer, Failure> {
    let (input, length) = open(file)?;
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    let master_keys = present_master_keys(config)?;
    let database = make_store_for_import(&config.database, COMMAND_DEADLINE).await?;
    let mut progress = Progress::new("imported", Unit::Bytes, length, clock);
    let reached = |bytes| progress.reach(bytes);
    let sources = (clock, randomness);
    let imported = moving::import(&database, input, &master_keys, sources, reached).await?;
    drop(progress);
    warn_of_unknown_plans(config, &database).await;
    let rows: u64 = imported.rows.values().sum();
    let text = format!(
        "{rows} rows are in the store; {} of them were not there before.",
        imported.inserted
    );
    Ok(Answer::Text(text, serde_json::to_value(&imported)?))
}

/// The file, and how long it is, if it has an end that is known.
fn open(file: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>), Failure> {
    if file == Path::new("-") {
        let stdin = BufReader::with_capacity(BUFFER, io::stdin());
        return Ok((Box::new(stdin), None));
    }
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let opened = File::open(file).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    let length = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::with_capacity(BUFFER, opened)), length))
}
