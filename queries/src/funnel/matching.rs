//! Which steps can be filled by distinct events: bipartite matching on at most 32 steps.
//!
//! In: step masks of events. Out: whether a range of steps can be filled, or how far a matching grows. Augmenting paths
//! (Kuhn); the sizes are bounded by the number of steps, not of events.

/// Events of one slot that fit the same steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaskCount {
    /// The steps they fit.
    pub mask: u32,
    /// How many there are.
    pub count: u32,
}

/// Whether all `steps` can be filled by distinct events; one event of mask `taken` is already used.
pub(super) fn can_fill(groups: &[MaskCount], steps: std::ops::RangeInclusive<usize>, taken: Option<u32>) -> bool {
    let mut matching = StepMatching::default();
    let mut used = taken.is_none();
    let wanted: u32 = steps.map(|step| 1u32 << step).sum();
    for group in groups {
        let mut count = group.count;
        if !used && taken == Some(group.mask) {
            used = true;
            count -= 1;
        }
        for _ in 0..count.min(32) {
            if !matching.add(group.mask & wanted) {
                // Further events of the same mask cannot help either.
                break;
            }
        }
    }
    matching.filled == wanted
}

/// A matching of events to steps that grows event by event.
#[derive(Debug, Clone, Default)]
pub(super) struct StepMatching {
    /// Steps that are filled.
    pub filled: u32,
    /// Mask of the event that fills each step.
    holder: [u32; 32],
}

impl StepMatching {
    /// Adds an event that fits `mask`; false, and nothing changed, when the matching cannot grow by it.
    pub(super) fn add(&mut self, mask: u32) -> bool {
        let mut visited = 0u32;
        self.place(mask, &mut visited)
    }

    fn place(&mut self, mask: u32, visited: &mut u32) -> bool {
        let free = mask & !self.filled;
        if free != 0 {
            let step = free.trailing_zeros();
            self.filled |= 1 << step;
            self.holder[step as usize] = mask;
            return true;
        }
        let mut candidates = mask & !*visited;
        while candidates != 0 {
            let step = candidates.trailing_zeros();
            *visited |= 1 << step;
            let moved = self.holder[step as usize];
            if self.place(moved, visited) {
                self.holder[step as usize] = mask;
                return true;
            }
            candidates = mask & !*visited;
        }
        false
    }

    /// Steps filled so far.
    pub(super) fn size(&self) -> u32 {
        self.filled.count_ones()
    }
}
