//! How the router works.
//!
//! # The structure
//!
//! Filters without wildcards are found by one hash of the whole topic, those with wildcards by a
//! tree of levels. Both are immutable trees below an atomic pointer, their *root*; the low bits of
//! the hash choose one of 256 roots of exact filters. With subscriptions 1 and 2 to `a/b`, 3 to
//! `a/+`, 4 to `a/#` and 5 to `a/+/c`:
//!
//! ```text
//! exact[0] ──► ∅                wild ──► "" ─ children ─► a
//! exact[1] ──► { "x" ─► {9} }                             ├─ below ─► {4}
//!    ⋮                                                    └─ any ───► +
//! exact[k] ──► { "a/b" ─► {1 2} }                                     ├─ here ─────► {3}
//!    ⋮                                                                └─ children ─► c ─ here ─► {5}
//! ```
//!
//! A place of the tree of levels holds the subscriptions of the filter that ends there (`here`), of
//! the filter that goes on with `#` (`below`), the place one `+` further (`any`), and the places one
//! name further (`children`).
//!
//! Every `{ }` is a persistent set: a radix tree over 64-bit keys, sixteen ways a step, whose leaves
//! are arrays of up to 32 elements; a set of one lies in the block that has it. Subscriptions are
//! keyed by their id, what has a name by a keyed hash of it; names whose hashes are equal share a
//! leaf and are told apart by comparing them. A full leaf becomes a *fork* of four first, and what
//! was a fork a *branch* of sixteen, so that a leaf is a quarter full on average when it is emptiest.
//! So a million topics, or a million subscribers of one filter, are five steps deep, and an update
//! copies a few hundred bytes.
//!
//! The place of a level lies in one allocation with its name. Of exact filters there may be very
//! many, each of one short name and one subscriber, so there a whole leaf is one allocation:
//!
//! ```text
//! 3 | 0 k₀  3 k₁  10 k₂  17 | {1 2} {9} {8} | a/bx/y/z/0x/y/z/1
//! ```
//!
//! The numbers say where the names begin. A key is 23 bits of the 31 of the hash that are kept, besides those that chose the root. Those 31
//! can stand for the filter elsewhere too: [`Router::find`](crate::Router::find) gives it back, so
//! that no second copy of the name need be.
//!
//! # Reading
//!
//! A reader pins the epoch and takes the two roots that concern the topic:
//!
//! ```text
//! w = wild;  loop { e = exact[hash];  again = wild;  if again == w { break }  w = again }
//! ```
//!
//! A root is never again one that it was before while anyone is pinned who saw it: even the empty
//! tree of levels is a new block each time, and no block is freed under a pinned reader. So equal
//! pointers mean that `w` was there all the while, and when `e` was read in between both were. Below
//! `w` the reader visits at each place `below`, at the last level of the topic also `here`, and
//! otherwise goes on to the named child and to `any`; at the root, for a topic that starts with `$`,
//! to the named child only. Below `e` it looks the topic up.
//!
//! It writes to no memory that another thread reads, apart from announcing its epoch in a cache line
//! of its own, and it never waits. It reads the roots once more only if an update of a filter with
//! wildcards came in between: lock-free, and wait-free where there is no such update.
//!
//! # Updating
//!
//! An update concerns one root. A writer copies what lies on the path from it to the set that
//! changes, and shares the rest:
//!
//! ```text
//!          old root                     new root        subscribing 6 to a/+/d:
//!             │                            │            "", a, + and the set of its children are
//!            ""                           ""'           new, as is d with its subscription; c and
//!             │                            │            {3} and {4} are shared.
//!             a ───────┐         ┌──────── a'
//!             │        ▼         ▼         │
//!             +      {4}     (shared)      +'
//!          {c}└──► c, {3}  (shared)   {c d}└──► d ─ here ─► {6}
//! ```
//!
//! Then it exchanges the root if that is still the one it began from, and otherwise frees its copies
//! and starts again from the root it now finds. When an exchange fails another one has succeeded:
//! the system as a whole always makes progress, which is what lock-free means. A place that the
//! change leaves empty is left out of the copy. Updates of topics with other hashes do not meet.
//!
//! # Linearization
//!
//! - `subscribe`, and `unsubscribe` that finds its subscription: the successful exchange.
//! - `unsubscribe` in vain: the load of the root.
//! - `for_each_match`: the load of `e` after which `wild` is unchanged.
//!
//! Loads and exchanges of roots are sequentially consistent, so these points have one order for all
//! threads. `len` is a counter that follows the exchange: it counts all updates that have returned,
//! and perhaps others.
//!
//! The generation is counted up after the exchange and before the update returns. So whoever reads
//! generation `g`, matches, and later reads `g` again knows that each update that had returned
//! before the second reading is in the match: its count came before the second reading, so it is
//! among the `g`; so it came before the first reading too; its exchange came before its count; and
//! the match loaded the roots after. An update that has exchanged and not yet counted may be in a
//! match or not; it has not returned yet.
//!
//! # Memory
//!
//! Links own nothing: two versions share most of their blocks. An update lists what it made and
//! what its copy replaces. If it fails, what it made is freed at once, for nobody has seen it. If it
//! succeeds, what it replaced, block by block, may be freed when every thread that was pinned then
//! has unpinned ([crossbeam-epoch](https://docs.rs/crossbeam-epoch)). The epoch is waited for by one
//! function at a time, for all updates since the last one, and the thread that runs it, often a
//! reader, leaves the freeing to the updates that follow, four updates' worth each; when none are
//! under way it frees what there is. Since within one version no block
//! is linked to twice, and only the update that wins replaces a version, nothing is freed twice or
//! forgotten. The last versions are freed with the router. Subscribers are cloned when the block
//! they lie in is copied, and dropped with it, at some later time and on any thread.
//!
//! # What it costs
//!
//! Measured by `benches/routing.rs` on two cores of a shared machine, with a million filters of five
//! levels, a tenth with wildcards: a match takes 0.8 µs, where all filters are exact 0.2 µs, and among
//! ten filters 23 ns with the pin of the epoch. A subscription and its end take 2 µs together, also
//! with a million subscribers of one filter. A subscription takes 76 bytes with its name, or 26
//! bytes more of a filter that is there. Beside a writer at full speed a reader keeps 91 % of its
//! rate; among ten filters, where a match is short and the writer makes 2.5 million updates a second,
//! 71 %.
//!
//! # What checks it
//!
//! A list with the definition of matching stands beside it (`tests/oracle.rs`). Histories of three
//! threads are recorded, and an order is looked for that explains them (`tests/linearizable.rs`).
//! Both run also with arrays of two elements, two roots and names that collide. Readers and writers
//! run against each other for as long as one likes (`tests/stress.rs`); subscribers count themselves
//! (`tests/memory.rs`); a million topics and a million subscribers come and go (`tests/scale.rs`);
//! and loom goes through the interleavings of small stories, those of crossbeam-epoch included
//! (`tests/loom.rs`):
//!
//! ```text
//! RUSTFLAGS="--cfg loom --cfg crossbeam_loom" \
//!     cargo test -p tidecast-router --release --test loom
//! TIDECAST_STRESS_SECONDS=600 \
//!     cargo test -p tidecast-router --release --test stress -- --nocapture
//! ```
//!
//! That no block is leaked, used after it was freed, or freed twice is what AddressSanitizer reports,
//! and Valgrind that nothing is read that was not written:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
//!     cargo test -p tidecast-router --target x86_64-unknown-linux-gnu --tests
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --error-exitcode=99" \
//!     cargo test -p tidecast-router --target x86_64-unknown-linux-gnu --lib
//! ```
//!
//! Valgrind's helgrind and drd are of no use here: they know locks and no atomics, and report every
//! one of them, those of the standard library first.
//!
//! With a nightly toolchain, Miri checks the provenance of the tagged pointers and ThreadSanitizer
//! looks for data races; the latter needs a standard library built for it, and does not know fences,
//! of which crossbeam-epoch has a cheaper substitute for it (`--cfg crossbeam_sanitize_thread`):
//!
//! ```text
//! MIRIFLAGS=-Zmiri-disable-isolation \
//!     cargo +nightly miri test -p tidecast-router --lib lockfree
//! RUSTFLAGS="-Zsanitizer=thread --cfg crossbeam_sanitize_thread" \
//!     cargo +nightly test -Zbuild-std -p tidecast-router \
//!     --target x86_64-unknown-linux-gnu --test stress --test linearizable
//! ```
