//! What this build declares: features, funnel steps, named queries, and where they stand in the code.
//!
//! In: the call sites the linker gathered. Out: one `gemba.catalog` record each, at the start and every 6 hours, so that the
//! server can name what is declared and never used.

use crate::callsite::{CALLSITES, CallsiteKind, FUNNELS};
use crate::context::Trace;
use crate::pipeline::outbox::Outbox;
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

/// Adds the catalogue to the outbox, each name once.
pub(crate) fn declare(outbox: &mut Outbox, time_ns: u64) {
    let mut seen = BTreeSet::new();
    let features = CALLSITES.iter().filter(|site| matches!(site.kind(), CallsiteKind::Feature | CallsiteKind::Attempt));
    for site in features {
        if is_ours(site.file()) && seen.insert((site.name(), site.was())) {
            let code = (site.file(), site.line());
            declare_one(outbox, time_ns, CatalogKind::Feature, site.name(), None, site.was(), code);
        }
    }
    for query in crate::query::QUERIES {
        if is_ours(query.file()) && seen.insert((query.name(), None)) {
            let code = (query.file(), query.line());
            declare_one(outbox, time_ns, CatalogKind::Query, query.name(), None, None, code);
        }
    }
    for step in FUNNELS.iter().copied().flatten().filter(|step| is_ours(step.file())) {
        let name = format!("{}.{}", step.funnel(), step.step());
        let was = step.was().map(|was| format!("{}.{was}", step.funnel()));
        let code = (step.file(), step.line());
        declare_one(outbox, time_ns, CatalogKind::Step, &name, Some(step.position()), was.as_deref(), code);
    }
}

fn declare_one(
    outbox: &mut Outbox,
    time_ns: u64,
    kind: CatalogKind,
    name: &str,
    position: Option<u32>,
    was: Option<&str>,
    (file, line): (&str, u32),
) {
    outbox.log(time_ns, event::CATALOG, Trace::default(), |attributes| {
        attributes.text(attribute::CATALOG_KIND, kind.as_str());
        attributes.text(attribute::CATALOG_NAME, name);
        if let Some(position) = position {
            attributes.integer(attribute::CATALOG_POSITION, i64::from(position));
        }
        attributes.some_text(attribute::CATALOG_WAS, was.unwrap_or_default());
        attributes.text(attribute::CODE_FILE, file);
        attributes.integer(attribute::CODE_LINE, i64::from(line));
    });
}
