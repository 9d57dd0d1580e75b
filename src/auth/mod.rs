//! Authentication exchanges as pure functions and states.
