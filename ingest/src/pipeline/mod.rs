//! From a request to stored rows: durable first, acknowledged then, stored exactly once.

mod types;

pub use types::{
    ContentEncoding, FateCounts, InsertCounts, Mode, PipelineConfig, PipelineError, PipelineStatus, Receipt,
    Submission, SubmitError,
};
