//! The saved questions of Gemba and the exact funnel.
