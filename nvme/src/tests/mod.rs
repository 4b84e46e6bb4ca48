//! The controller as a guest's driver sees it, and as the device manager does.

mod admin;
mod backend;
mod driver;
mod faults;
mod guest_acts;
mod hostile;
mod io;
mod lifecycle;
mod registers;
mod shutdown;
