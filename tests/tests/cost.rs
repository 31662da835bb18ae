//! What a step costs: no allocation in the steady state, one clone of a configuration per start,
//! and few bytes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use handover_core::{
    Epoch, Exit, Input, Machine, Output, Policy, Reception, Severity, Timestamp, Urgency,
};

/// The system's allocator, counting how often each thread asks it for memory.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator can only be counted from within")]
// SAFETY: every call goes to the system's allocator as it came; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the same promise about the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[test]
fn hand_overs_do_not_allocate_in_the_steady_state() {
    let mut world = World::new(Policy::resilient());
    let configs = [Arc::<str>::from("A"), Arc::from("B")];
    let mut hand_over = |config: &Arc<str>| {
        // The newest epoch fails once, is tried again, and takes over.
        world.give(Input::Desire(Arc::clone(config)));
        let failed = Exit::Failed(Severity::Transient);
        world.give(Input::Exited(world.newest(), failed));
        world.wait_for_deadline();
        world.give(Input::Live(world.newest()));
        world.give(Input::Exited(world.oldest(), Exit::Clean));
    };
    let [a, b] = &configs;
    hand_over(a);
    for _ in 0..2 {
        hand_over(b);
        hand_over(a);
    }

    let before = ALLOCATIONS.get();
    for _ in 0..5_000 {
        hand_over(b);
        hand_over(a);
    }

    assert_eq!(ALLOCATIONS.get() - before, 0);
    let sanity = ALLOCATIONS.get();
    drop(Box::new(1));
    assert_eq!(ALLOCATIONS.get() - sanity, 1, "the counter counts");
}

/// Once for the machine's own record of the epoch, and once for the driver.
#[test]
fn a_configuration_is_cloned_twice_for_each_start() {
    let clones = Rc::new(Cell::new(0));
    let config = |name| Cloned {
        name,
        clones: Rc::clone(&clones),
    };
    let mut world = World::new(Policy {
        max_epochs: None,
        ..Policy::resilient()
    });

    world.give(Input::Desire(config("A")));
    world.give(Input::Live(Epoch::ZERO));
    assert_eq!((clones.get(), world.starts), (2, 1));

    // A failure in between, a return to what serves, and a fall back to the last good one.
    for name in ["B", "A", "B", "C"] {
        world.give(Input::Desire(config(name)));
        let failed = Exit::Failed(Severity::Transient);
        world.give(Input::Exited(Epoch::new(1), failed));
    }
    world.give(Input::Exited(
        Epoch::ZERO,
        Exit::Failed(Severity::Transient),
    ));
    for _ in 0..4 {
        world.wait_for_deadline();
        world.give(Input::Live(world.newest()));
    }
    assert!(world.starts >= 5, "{} starts", world.starts);
    assert_eq!(clones.get(), 2 * world.starts);

    let before = clones.get();
    world.give(Input::Terminate(Urgency::Drain));
    world.give(Input::Terminate(Urgency::Kill));
    assert_eq!(clones.get(), before);
}

#[test]
fn a_machine_is_small() {
    let size = size_of::<Machine<Arc<str>>>();
    assert!(size <= 512, "{size} bytes");
}

/// A configuration that tells how often it was cloned.
struct Cloned {
    name: &'static str,
    clones: Rc<Cell<u32>>,
}

impl Clone for Cloned {
    fn clone(&self) -> Self {
        self.clones.set(self.clones.get() + 1);
        Self {
            name: self.name,
            clones: Rc::clone(&self.clones),
        }
    }
}

impl PartialEq for Cloned {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Cloned {}

struct World<C> {
    machine: Machine<C>,
    now: Timestamp,
    /// How many epochs were started to serve.
    starts: u32,
}

impl<C: Clone + Eq> World<C> {
    fn new(policy: Policy) -> Self {
        Self {
            machine: Machine::new(policy).unwrap(),
            now: Timestamp::ZERO,
            starts: 0,
        }
    }

    fn give(&mut self, input: Input<C>) {
        if let Reception::Denied(why) = self.machine.handle_input(self.now, input) {
            panic!("{why}");
        }
        self.carry_out();
    }

    fn wait_for_deadline(&mut self) {
        if let Some(deadline) = self.machine.poll_timeout() {
            self.now = self.now.max(deadline.at);
        }
        self.machine.handle_timeout(self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Start {
                target: handover_core::Target::Serve(_),
                ..
            } = output
            {
                self.starts += 1;
            }
        }
    }

    fn newest(&self) -> Epoch {
        self.machine.epochs().next_back().unwrap().epoch
    }

    fn oldest(&self) -> Epoch {
        self.machine.epochs().next().unwrap().epoch
    }
}
