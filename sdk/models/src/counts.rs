//! Claims about the counts of drops: each is reported once, also when a report is lost and told again.

#[path = "../../src/callsite/counts.rs"]
mod place;

use loom::sync::Arc;
use loom::thread;
use place::Counts;

/// What the reporter has told so far of one count.
#[derive(Default)]
struct Told(u64);

impl Told {
    /// What there is more now.
    fn report(&mut self, counts: &Counts<2>) -> u64 {
        let total = counts.all().next().unwrap();
        let new = total.checked_sub(self.0).expect("a count only rises");
        self.0 = total;
        new
    }
}

#[test]
fn every_drop_is_reported_once_even_when_a_report_is_lost() {
    loom::model(|| {
        let counts = Arc::new(Counts::<2>::new());
        let callers: Vec<_> = (0..2)
            .map(|other| {
                let counts = Arc::clone(&counts);
                thread::spawn(move || {
                    counts.add(0);
                    counts.add(other);
                })
            })
            .collect();
        let mut told = Told::default();
        let arrived = told.report(&counts);
        let lost = told.report(&counts);
        // What a lost report counted is taken back, so that the next one tells it.
        told.0 -= lost;
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        let last = told.report(&counts);
        assert_eq!(arrived + last, 3);
        assert_eq!(counts.all().collect::<Vec<_>>(), [3, 1]);
    });
}
