//! The lines of a file, and the sum over them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, BufRead, Read, Write},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::types::text::storable;

/// What the first line names, so that nothing else is taken for an export.
pub(super) const FORMAT: &str = "mirrory-export";

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

/// Far longer than any row: what is read into memory has an end.
const LONGEST_LINE: u64 = 1 << 20;

/// How many rows of each table there are.
pub(super) type Counts = BTreeMap<String, u64>;

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) program: String,
    pub(super) schema: i64,
    pub(super) store: String,
    pub(super) created_at: String,
}

/// Any other line: a row, or the end.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) table: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) row: Option<&'a RawValue>,
    pub(super) end: Option<End>,
}

/// What the last line says.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct End {
    pub(super) rows: Counts,
    pub(super) sha256: String,
}

/// Refuses a row with a text in it that not every store can hold: the databases take the JSON apart, and
/// do not agree on what its escapes may stand for.
pub(super) fn require_storable(row: &str) -> Result<(), String> {
    if !row.contains("\\u") {
        // No character is written by its number, and these have no other way into JSON.
        return Ok(());
    }
    let columns: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(row).map_err(|error| error.to_string())?;
    let mut texts = columns.values().filter_map(serde_json::Value::as_str);
    texts
        .try_for_each(|text| storable(text).map(drop))
        .map_err(|refused| format!("a text in it {refused}"))
}

/// Writes lines, and adds them up.
pub(super) struct Lines<W> {
    output: W,
    sum: Sha256,
    rows: Counts,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub(super) fn begin(output: W, header: &Header) -> io::Result<Self> {
        let mut lines = Self {
            output,
            sum: Sha256::new(),
            rows: Counts::new(),
            line: Vec::new(),
        };
        serde_json::to_writer(&mut lines.line, header)?;
        lines.end_line()?;
        Ok(lines)
    }

    pub(super) fn row(&mut self, table: &str, row: &str) -> io::Result<()> {
        write!(self.line, r#"{{"table":"{table}","row":{row}}}"#)?;
        match self.rows.get_mut(table) {
            Some(rows) => *rows += 1,
            None => drop(self.rows.insert(table.to_owned(), 1)),
        }
        self.end_line()
    }

    /// Writes the last line; what it says.
    pub(super) fn finish(mut self) -> io::Result<End> {
        let end = End {
            rows: self.rows,
            sha256: HEXLOWER.encode(&self.sum.finalize()),
        };
        serde_json::to_writer(&mut self.output, &serde_json::json!({ "end": end }))?;
        self.output.write_all(b"\n")?;
        self.output.flush()?;
        Ok(end)
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.sum.update(&self.line);
        self.output.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

/// Reads lines, and adds up those before the one that was read last.
pub(super) struct LineReader<R> {
    input: R,
    sum: Sha256,
    line: Vec<u8>,
    /// The number of the last line.
    pub(super) number: u64,
    /// How much was read.
    pub(super) bytes: u64,
}

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            sum: Sha256::new(),
            line: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// The next whole line; none where the file ends, or was cut off.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.sum.update(&self.line);
        self.line.clear();
        let mut input = (&mut self.input).take(LONGEST_LINE);
        let read = input.read_until(b'\n', &mut self.line)?;
        self.number += 1;
        self.bytes += read as u64;
        if self.line.last() == Some(&b'\n') {
            return Ok(Some(&self.line));
        }
        if read as u64 == LONGEST_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {} is too long", self.number),
            ));
        }
        Ok(None)
    }

    /// The sum of all lines before the last.
    pub(super) fn sum(&self) -> String {
        HEXLOWER.encode(&self.sum.clone().finalize())
    }
}
