use crate::loss::{Position, Sequencewise};
use crate::real::Scaled;

/// Connectionist temporal classification: an alignment repeats labels and puts blanks between them, and must where the same
/// label comes twice (Graves et al. 2006, equations 6 and 10).
#[derive(Clone, Copy)]
pub struct Ctc;

impl Sequencewise for Ctc {
    #[inline(always)]
    fn forward(&self, here: Position, before: Scaled, unlike_before: Scaled) -> Position {
        Position {
            blank: Scaled::sum([here.blank, before]),
            label: Scaled::sum([here.label, here.blank, unlike_before]),
        }
    }

    #[inline(always)]
    fn backward(&self, here: Position, after: Position, unlike_after: Scaled) -> Position {
        Position {
            blank: Scaled::sum([here.blank, here.label]),
            label: Scaled::sum([here.label, after.blank, unlike_after]),
        }
    }
}
