//! The plainest evaluator.
