//! The controller as a guest's driver sees it, and as the device manager does.

mod admin;
mod backend;
mod blocks;
mod commands;
mod driver;
mod erase;
mod faults;
mod guest_acts;
mod hostile;
mod identify;
mod io;
mod latency;
mod lifecycle;
mod namespaces;
mod queues;
mod registers;
mod ring;
mod selftest;
mod sgl;
mod shadow;
mod shutdown;
mod state;
mod status;
mod subsystem;
mod table;
