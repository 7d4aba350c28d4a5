//! Real data sets with answers worked out for them: excerpts in `tests/data`, and the whole sets where they lie in
//! `shared/data` beside the checkout.

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Records sent in one request. Chosen: as a busy collector batches, well below every limit.
pub const BATCH_RECORDS: usize = 2_000;

/// A folder with data and `answers.json`.
#[derive(Debug)]
pub struct DataSet {
    folder: PathBuf,
    /// The worked answers.
    pub answers: Value,
}

impl DataSet {
    /// The excerpt of this name, which is always there.
    pub fn excerpt(name: &str) -> Self {
        Self::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name))
    }

    /// The whole set of this name; `None` where it is not beside the checkout, which is said on standard error.
    pub fn whole(name: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
        if folder.join("answers.json").exists() {
            return Some(Self::open(folder));
        }
        say_left_out(&format!("the whole data set {name} is not at {}", folder.display()));
        None
    }

    fn open(folder: PathBuf) -> Self {
        let answers = serde_json::from_reader(File::open(folder.join("answers.json")).unwrap()).unwrap();
        Self { folder, answers }
    }

    /// Path of a file of the set.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file of comma-separated values, unpacked. Bytes that are no UTF-8 are replaced.
    pub fn table(&self, file: &str) -> Table {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(File::open(self.file(file)).unwrap()).read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().iter().map(str::to_owned).collect();
        Table { columns, rows: reader.records().map(Result::unwrap).collect() }
    }
}

/// Says on standard error that part of a claim is left out, and why.
pub fn say_left_out(why: &str) {
    // Not by a macro for printing: what those print in a test that passes is not shown.
    std::io::stderr().write_all(format!("\nleft out: {why}\n").as_bytes()).unwrap();
}

/// Rows under named columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    /// One entry a row.
    pub rows: Vec<csv::StringRecord>,
}

impl Table {
    /// Position of a column.
    pub fn column(&self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|| panic!("no column {name} in {:?}", self.columns))
    }

    /// Position of a column that not every file has.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Nanoseconds since 1970 of a time of RFC 3339, or of `2014-06-01 12:00:00` in UTC.
pub fn utc_ns(text: &str) -> u64 {
    let time = text.parse::<jiff::Timestamp>().unwrap_or_else(|_| {
        let time: jiff::civil::DateTime = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
    });
    u64::try_from(time.as_nanosecond()).unwrap()
}
