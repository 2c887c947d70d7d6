//! Commands and flags as typed by the user.
