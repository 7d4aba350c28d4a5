//! What this build declares: features, funnel steps, named queries, and where they stand in the code.
//!
//! In: the call sites the linker gathered. Out: one `gemba.catalog` record each, in batches of their own, so that the server can
//! name what is declared and never used. When it is declared is `pipeline::declared`'s.

use crate::callsite::{CALLSITES, CallsiteKind, FUNNELS};
use crate::context::Trace;
use crate::pipeline::encode::{self, Buffer};
use crate::pipeline::outbox::Outbox;
use crate::pipeline::queue::{Receipt, Signal};
use gemba_conventions::{CatalogKind, attribute, event};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Beginning of the file names whose declarations are this service's; unset: all.
static BELOW: OnceLock<String> = OnceLock::new();

/// Keeps to what is declared in files whose names begin so. Called before the first [`declare`]; the first call holds.
pub(crate) fn keep_to(files: String) {
    BELOW.get_or_init(|| files);
}

fn is_ours(file: &str) -> bool {
    BELOW.get().is_none_or(|files| file.starts_with(files.as_str()))
}

/// Sends the catalogue, each name once; the receipts tell whether it arrived.
pub(crate) fn declare(outbox: &mut Outbox, time_ns: u64) -> Vec<Receipt> {
    let mut batches = Batches { outbox, time_ns, items: Buffer::new(), records: 0, receipts: Vec::new() };
    let mut seen = BTreeSet::new();
    let features = CALLSITES.iter().filter(|site| matches!(site.kind(), CallsiteKind::Feature | CallsiteKind::Attempt));
    for site in features {
        if is_ours(site.file()) && seen.insert((site.name(), site.was())) {
            batches.add(CatalogKind::Feature, site.name(), None, site.was(), (site.file(), site.line()));
        }
    }
    for query in crate::query::QUERIES {
        if is_ours(query.file()) && seen.insert((query.name(), None)) {
            batches.add(CatalogKind::Query, query.name(), None, None, (query.file(), query.line()));
        }
    }
    for step in FUNNELS.iter().copied().flatten().filter(|step| is_ours(step.file())) {
        let name = format!("{}.{}", step.funnel(), step.step());
        let was = step.was().map(|was| format!("{}.{was}", step.funnel()));
        let code = (step.file(), step.line());
        batches.add(CatalogKind::Step, &name, Some(step.position()), was.as_deref(), code);
    }
    batches.seal();
    batches.receipts
}

/// The catalogue in batches of its own.
struct Batches<'a> {
    outbox: &'a mut Outbox,
    time_ns: u64,
    items: Buffer,
    records: u64,
    receipts: Vec<Receipt>,
}

impl Batches<'_> {
    fn add(
        &mut self,
        kind: CatalogKind,
        name: &str,
        position: Option<u32>,
        was: Option<&str>,
        (file, line): (&str, u32),
    ) {
        /// As large as the batches of events.
        const MAX_BYTES: usize = 512 * 1024;
        encode::log_record(&mut self.items, self.time_ns, event::CATALOG, Trace::default(), |attributes| {
            attributes.text(attribute::CATALOG_KIND, kind.as_str());
            attributes.text(attribute::CATALOG_NAME, name);
            if let Some(position) = position {
                attributes.integer(attribute::CATALOG_POSITION, i64::from(position));
            }
            attributes.some_text(attribute::CATALOG_WAS, was.unwrap_or_default());
            attributes.text(attribute::CODE_FILE, file);
            attributes.integer(attribute::CODE_LINE, i64::from(line));
        });
        self.records += 1;
        if self.items.len() >= MAX_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let (items, records) = (std::mem::take(&mut self.items), std::mem::take(&mut self.records));
        if records > 0 {
            self.receipts.push(self.outbox.apart(Signal::Logs, records, items, Receipt::divisible()));
        }
    }
}
