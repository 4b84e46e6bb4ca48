//! Plays a guest's driver, and hostile ones, against functions over a device that is played too.

mod bars;
mod cancelled;
mod config;
mod device;
mod hostile;
mod interrupts;
mod io_events;
mod machine;
mod masked;
mod msi;
mod observed;
mod placed;
mod presence;
mod refused;
mod resets;
mod teardown;
mod without_own_reset;

use std::sync::Arc;

use devices::pci::{Attachment, IntxPin, PciFunction};

use crate::function::{Function, FunctionConfig, Machine};
use device::Played;
use machine::{Events, Line, Mapper, Router};

const COMMAND: u16 = 0x04;
const MEMORY: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;
const INTX_DISABLE: u32 = 1 << 10;

/// A function, and all that is around it.
struct Bench {
    device: Arc<Played>,
    router: Arc<Router>,
    mapper: Arc<Mapper>,
    line: Arc<Line>,
    events: Arc<Events>,
    function: Arc<Function>,
}

impl Bench {
    fn new() -> Self {
        Self::of(Played::drive(), Attachment::Express)
    }

    /// In a machine whose writes do not signal eventfds.
    fn of(device: Played, attachment: Attachment) -> Self {
        Self::with_events(device, attachment, None)
    }

    /// In one where they do.
    fn signalling(device: Played) -> Self {
        Self::with_events(device, Attachment::Express, Some(Arc::default()))
    }

    fn with_events(device: Played, attachment: Attachment, events: Option<Arc<Events>>) -> Self {
        let device = Arc::new(device);
        let (router, mapper, line) = <(Arc<Router>, Arc<Mapper>, Arc<Line>)>::default();
        let machine = Machine {
            router: router.clone(),
            pin: Some((IntxPin::A, line.clone())),
            mapper: mapper.clone(),
            io_events: events.clone().map(|events| events as _),
        };
        let config = FunctionConfig {
            id: "drive0".into(),
            attachment,
        };
        let function = Function::new(config, device.clone(), machine).unwrap();
        Self {
            device,
            router,
            mapper,
            line,
            events: events.unwrap_or_default(),
            function,
        }
    }

    fn read(&self, offset: u16) -> u32 {
        self.function.read_config(offset)
    }

    fn write(&self, offset: u16, value: u32) {
        let _ = self.function.write_config(offset, value, u32::MAX);
    }

    fn write16(&self, offset: u16, value: u16) {
        let shift = 8 * u32::from(offset % 4);
        let (value, mask) = (u32::from(value) << shift, 0xFFFF << shift);
        let _ = self.function.write_config(offset & !3, value, mask);
    }

    fn read_bar32(&self, bar: u8, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.function.read_bar(bar, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write_bar32(&self, bar: u8, offset: u64, value: u32) {
        self.function.write_bar(bar, offset, &value.to_le_bytes());
    }

    /// Turns memory decoding and bus mastering on.
    fn enable(&self) {
        self.write16(COMMAND, (MEMORY | MASTER) as u16);
    }
}
